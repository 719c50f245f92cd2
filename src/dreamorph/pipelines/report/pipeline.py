"""The reporting step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.report import nodes


def create_pipeline() -> Pipeline:
    """All results -> one page."""
    return Pipeline(
        [
            node(
                nodes.judge_recovery,
                [
                    "params:cohort",
                    "origin",
                    "simulated_patients",
                    "cohort",
                    "alignment",
                    "pair_table",
                    "pairs",
                    "prior",
                ],
                "recovery",
                name="judge_recovery",
            ),
            node(
                nodes.write_report,
                [
                    "params:cohort",
                    "origin",
                    "cohort",
                    "quarantine",
                    "alignment",
                    "pair_table",
                    "pairs",
                    "prior",
                    "dream_table",
                    "cases",
                    "comparisons",
                    "tuning_scores",
                    "choice",
                    "arm_plan",
                    "arms",
                    "scores",
                    "checks",
                    "verdict",
                    "recovery",
                    "params:report",
                    "parameters",
                    "git_commit",
                    "earlier_parameters",
                ],
                ["report", "pictures"],
                name="write_report",
            ),
        ]
    )
