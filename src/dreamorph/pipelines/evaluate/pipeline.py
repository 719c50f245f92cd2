"""The evaluation step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.evaluate import nodes


def create_pipeline() -> Pipeline:
    """Networks and plain baselines -> scores of held-out subjects and their comparison."""
    return Pipeline(
        [
            node(
                nodes.score_arms,
                [
                    "cohort",
                    "case_table",
                    "cohort_facts",
                    "arm_plan",
                    "arms",
                    "plain_scores",
                    "params:affine_warps",
                    "params:atlas_fusion",
                    "params:evaluation",
                    "params:training.device",
                    "scores_before",
                ],
                "scores",
                name="score_arms",
            ),
            node(
                nodes.score_plain,
                [
                    "cohort",
                    "case_table",
                    "cohort_facts",
                    "params:atlas_fusion",
                    "params:shape_classifier",
                    "params:evaluation",
                    "plain_scores_before",
                ],
                "plain_scores",
                name="score_plain_baseline",
            ),
            node(
                nodes.collect_scores,
                ["cohort", "case_table", "scores", "plain_scores", "params:evaluation"],
                ["cases", "comparisons", "arm_metrics", "test_metrics", "results"],
                name="collect_scores",
            ),
        ]
    )
