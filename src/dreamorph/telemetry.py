"""Nothing that this package depends on may phone home."""

import os

SWITCHES = ("KEDRO_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY")


def switch_off() -> None:
    """Refuse telemetry, of Kedro and of MLflow.

    Kedro calls this before any command of its own (entry point `kedro.init`), also outside the
    project, where the file `.telemetry` is not seen.
    """
    for name in SWITCHES:
        os.environ[name] = "true"
