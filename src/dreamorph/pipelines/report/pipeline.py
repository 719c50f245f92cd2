"""The reporting step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.current import check_verdict
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
                check_verdict,
                [
                    "verdict",
                    "cohort",
                    "case_table",
                    "prior",
                    "dream_table",
                    "choice",
                    "arm_plan",
                    "scores",
                    "plain_scores",
                    "results",
                ],
                "current_verdict",
                name="check_verdict",
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
                    "arms",
                    "scores",
                    "checks",
                    "current_verdict",
                    "recovery",
                    "params:report",
                    "parameters",
                    "git_commit",
                    "earlier_parameters",
                ],
                ["report", "pictures", "summary"],
                name="write_report",
            ),
        ]
    )
