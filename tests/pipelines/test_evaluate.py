"""What the evaluation step makes of all scores."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from dreamorph.baselines.atlas import FusionConfig
from dreamorph.evaluation import EvaluationConfig, Scored, evaluate_segmentation
from dreamorph.pipelines.evaluate.nodes import _plain_keys, collect_scores


def test_an_arm_that_rightly_draws_nothing_is_compared_with_one_that_does_not() -> None:
    """Dreams draw the organ where it is and nowhere else, random warps always."""
    items = {}
    for subject in range(8):
        true = np.zeros((8, 8, 8), np.uint8)
        true[2:5] = subject < 4
        always = np.zeros_like(true)
        always[2:5] = 1
        for arm, found in (("dream", true), ("elastic", always)):
            who = Scored(arm, f"c{subject}", f"s{subject}")
            rows = evaluate_segmentation(who, found, true, (1, 1, 1), {1: "organ"})
            items[f"{arm}-{subject}"] = {"rows": rows.to_dict("list")}
    cohort = SimpleNamespace(n_labels=1, class_names=[])
    cases, comparisons, _, _ = collect_scores(cohort, items, {}, EvaluationConfig())  # type: ignore[arg-type]
    row = comparisons.set_index(["first", "second"]).loc[("dream", "elastic")]
    assert row["n_subjects"] == 8
    assert (row["mean_first"], row["mean_second"]) == (1.0, 0.5)
    # the table of cases says that there was nothing to measure
    assert cases["dice"].isna().sum() == 4


def test_a_corrected_label_file_is_scored_again_though_the_common_grid_does_not_show_it() -> None:
    cohort = SimpleNamespace(cases=["a"], indices=lambda _: [0], fingerprint=lambda: "same")

    def key(label_content: str) -> str:
        table = pd.DataFrame({"case": ["a"], "split": ["test"], "label_content": [label_content]})
        return _plain_keys(cohort, table, FusionConfig(), EvaluationConfig())["a"]  # type: ignore[arg-type]

    assert key("before") == key("before") != key("after")
