"""The pipelines, one per folder of `dreamorph.pipelines`."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

from dreamorph.pipelines import ingest

STEPS = ("ingest", "register", "prior", "dream", "tune", "train", "evaluate", "audit", "report")


def register_pipelines() -> dict[str, Pipeline]:
    """Each pipeline by its name; `__default__` is all steps in their order.

    `register` reads the volumes as well, so that it is of use alone.
    """
    found: dict[str, Pipeline] = find_pipelines(raise_errors=True)
    steps = [found[step] for step in STEPS if step in found]
    if "register" in found:  # Kedro finds no more than it was asked for
        found["register"] += ingest.create_pipeline()
    return found | {"__default__": sum(steps, start=Pipeline([]))}
