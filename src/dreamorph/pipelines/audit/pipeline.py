"""The audit step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.audit import nodes
from dreamorph.pipelines.current import check_results


def create_pipeline() -> Pipeline:
    """Dreams and scores -> hallucination checks and one verdict."""
    return Pipeline(
        [
            node(
                check_results,
                [
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
                "judged",
                name="check_results",
            ),
            node(
                nodes.audit_dreams,
                ["cohort", "prior", "pair_table", "dream_table", "params:audit"],
                "dream_checks",
                name="audit_dreams",
            ),
            node(
                nodes.paint_out,
                [
                    "cohort",
                    "arm_plan",
                    "arms",
                    "choice",
                    "params:audit",
                    "params:training.device",
                    "judged",
                ],
                "removal",
                name="paint_out_structures",
            ),
            node(
                nodes.audit_nets,
                ["cohort", "cases", "removal", "choice", "params:audit"],
                "net_checks",
                name="audit_nets",
            ),
            node(
                nodes.decide,
                ["dream_checks", "net_checks", "judged"],
                ["checks", "verdict"],
                name="decide",
            ),
        ]
    )
