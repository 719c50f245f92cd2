"""The pipelines, one per folder of `dreamorph.pipelines`."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

STEPS = ("ingest", "register", "prior", "dream", "tune", "train", "evaluate", "audit", "report")


def register_pipelines() -> dict[str, Pipeline]:
    """Each pipeline by its name; `__default__` is all steps in their order.

    `register` reads the volumes as well, so that it is of use alone.
    """
    found: dict[str, Pipeline] = find_pipelines(raise_errors=True)
    steps = [found[step] for step in STEPS if step in found]
    alone = {"register": found["ingest"] + found["register"]}
    return found | alone | {"__default__": sum(steps, start=Pipeline([]))}
