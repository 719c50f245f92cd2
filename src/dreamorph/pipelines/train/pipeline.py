"""The training step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.train import nodes

SAMPLERS = ["params:training", "params:affine_warps", "params:elastic_warps"]


def create_pipeline() -> Pipeline:
    """Volumes and dreams -> one trained network per arm and seed."""
    return Pipeline(
        [
            node(
                nodes.plan_arms,
                ["cohort", "prior", "dream_table", "choice", *SAMPLERS],
                "arm_plan",
                name="plan_arms",
            ),
            node(
                nodes.train_arms,
                [
                    "cohort",
                    "prior",
                    "dream_table",
                    "choice",
                    "arm_plan",
                    *SAMPLERS,
                    "checkpoints",
                    "arms_before",
                ],
                "arms",
                name="train_arms",
            ),
        ]
    )
