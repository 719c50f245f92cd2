"""The audit step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.audit import nodes


def create_pipeline() -> Pipeline:
    """Dreams and scores -> hallucination checks and one verdict."""
    return Pipeline(
        [
            node(
                nodes.audit_dreams,
                ["cohort", "prior", "pair_table", "dream_table", "params:audit"],
                "dream_checks",
                name="audit_dreams",
            ),
            node(
                nodes.paint_out,
                ["cohort", "arm_plan", "arms", "choice", "params:audit"],
                "removal",
                name="paint_out_structures",
            ),
            node(
                nodes.audit_nets,
                ["cohort", "cases", "removal", "choice", "arm_plan", "scores", "params:audit"],
                "net_checks",
                name="audit_nets",
            ),
            node(
                nodes.decide,
                ["dream_checks", "net_checks", "cohort", "arm_plan", "dream_table"],
                ["checks", "verdict"],
                name="decide",
            ),
        ]
    )
