"""The tuning step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.tune import nodes


def create_pipeline() -> Pipeline:
    """Cross-validation within the training subjects -> random warps' strength, recommended arm."""
    settings = ["params:training", "params:affine_warps", "params:elastic_warps"]
    return Pipeline(
        [
            node(
                nodes.plan_tuning,
                [
                    "cohort",
                    "prior",
                    "pair_table",
                    "params:cohort",
                    "origin",
                    "params:tuning",
                    *settings,
                    "params:dreaming",
                    "params:audit",
                ],
                "tuning_plan",
                name="plan_tuning",
            ),
            node(
                nodes.cross_validate,
                [
                    "cohort",
                    "alignment",
                    "pair_table",
                    "pairs",
                    "tuning_plan",
                    "params:prior",
                    "params:tuning",
                    *settings,
                    "params:dreaming",
                    "params:audit",
                    "tuned_before",
                ],
                "tuned",
                name="cross_validate",
            ),
            node(
                nodes.choose_warps,
                ["cohort", "tuning_plan", "tuned", "params:tuning", "params:elastic_warps"],
                ["tuning_scores", "choice"],
                name="choose_warps",
            ),
        ]
    )
