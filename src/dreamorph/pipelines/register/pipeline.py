"""The registration step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.register import nodes


def create_pipeline() -> Pipeline:
    """Cohort -> affine maps, common space, velocity fields and their quality."""
    return Pipeline(
        [
            node(
                nodes.plan_pairs,
                ["cohort", "params:pairing", "params:registration"],
                "affine_plan",
                name="plan_pairs",
            ),
            node(
                nodes.align_pairs,
                ["cohort", "affine_plan", "params:registration", "affine_pairs_before"],
                "affine_pairs",
                name="align_pairs",
            ),
            node(
                nodes.reconcile_affines,
                ["cohort", "affine_plan", "affine_pairs"],
                "alignment",
                name="reconcile_affines",
            ),
            node(
                nodes.plan_deformations,
                ["alignment", "affine_plan", "params:registration"],
                "pair_plan",
                name="plan_deformations",
            ),
            node(
                nodes.register_pairs,
                ["alignment", "pair_plan", "params:registration", "pairs_before"],
                "pairs",
                name="register_pairs",
            ),
            node(
                nodes.judge_pairs,
                ["cohort", "alignment", "pair_plan", "affine_pairs", "pairs"],
                "pair_table",
                name="judge_pairs",
            ),
        ]
    )
