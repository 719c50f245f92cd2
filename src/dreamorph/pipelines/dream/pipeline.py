"""The dreaming step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.dream import nodes


def create_pipeline() -> Pipeline:
    """Prior -> a pool of judged dreams, some of them as volumes to look at."""
    return Pipeline(
        [
            node(
                nodes.plan_dreams,
                ["cohort", "prior", "pair_table", "params:dreaming", "params:audit"],
                "dream_plan",
                name="plan_dreams",
            ),
            node(
                nodes.judge_dreams,
                [
                    "cohort",
                    "prior",
                    "dream_plan",
                    "pair_table",
                    "params:audit",
                    "judged_dreams_before",
                ],
                "judged_dreams",
                name="judge_dreams",
            ),
            node(
                nodes.collect_dreams,
                ["dream_plan", "judged_dreams"],
                "dream_table",
                name="collect_dreams",
            ),
            node(
                nodes.save_dreams,
                [
                    "cohort",
                    "prior",
                    "dream_table",
                    "cohort_facts",
                    "params:dreaming",
                    "dream_volumes_before",
                ],
                "dream_volumes",
                name="save_dreams",
            ),
        ]
    )
