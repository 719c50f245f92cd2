"""MLflow notes who started a run and from which file: both name people and places."""

from mlflow.tracking.context import registry
from mlflow.tracking.context.abstract_context import RunContextProvider
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_USER

#: What stands in their place.
NOBODY = {MLFLOW_USER: "-", MLFLOW_SOURCE_NAME: "dreamorph"}


class AnonymousContext(RunContextProvider):
    """Says `NOBODY` instead, of runs and of models.

    Tags alone, written over afterwards, would leave the name in the table of the runs.
    """

    def in_context(self) -> bool:
        """Always."""
        return True

    def tags(self) -> dict[str, str]:
        """Tags that replace those of MLflow's own providers."""
        return dict(NOBODY)


def anonymise() -> None:
    """From now on nothing this process tracks says who runs it. Safe to repeat."""
    known = registry._run_context_provider_registry
    if not any(isinstance(provider, AnonymousContext) for provider in known):
        known.register(AnonymousContext)  # the last one registered counts
