"""The prior step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.prior import nodes


def create_pipeline() -> Pipeline:
    """Velocity fields of pairs -> one deformation prior per class."""
    return Pipeline(
        [
            node(
                nodes.learn_prior,
                ["cohort", "alignment", "pair_table", "pairs", "params:prior"],
                ["prior", "prior_diagnostics"],
                name="learn_prior",
            )
        ]
    )
