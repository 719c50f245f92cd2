"""What the evaluation step makes of all scores."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dreamorph.baselines.atlas import FusionConfig
from dreamorph.evaluation import EvaluationConfig, Scored, evaluate_segmentation
from dreamorph.hallucination import AuditConfig, NetEvidence
from dreamorph.hallucination.dream_ablation import dream_ablation
from dreamorph.pipelines.evaluate.nodes import _means, _plain_keys, collect_scores

NO_FILES = pd.DataFrame({"split": [], "label_content": []})


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
    cohort = SimpleNamespace(n_labels=1, class_names=[], fingerprint=lambda: "same")
    cases, comparisons, *_ = collect_scores(cohort, NO_FILES, items, {}, EvaluationConfig())  # type: ignore[arg-type]
    row = comparisons.set_index(["first", "second"]).loc[("dream", "elastic")]
    assert row["n_subjects"] == 8
    assert (row["mean_first"], row["mean_second"]) == (1.0, 0.5)
    # the table of cases says that there was nothing to measure
    assert cases["dice"].isna().sum() == 4


def test_the_claim_that_dreams_helped_has_one_p_value_in_table_and_check() -> None:
    """However many other comparisons stand in the table."""
    arms = {"none": 0.7, "classic": 0.8, "elastic": 0.81, "learned": 0.82, "dream": 0.84}
    averages = {"elastic+atlas": 0.81, "learned+atlas": 0.82, "dream+atlas": 0.83, "atlas": 0.75}
    generator = np.random.default_rng(0)
    rows = [
        [arm, 0, f"c{subject}", f"s{subject}", 1, mean + generator.normal(0, 0.003), 1.0, 1.0]
        for arm, mean in (arms | averages).items()
        for subject in range(8)
    ]
    names = ["arm", "seed", "case", "subject", "label", "dice", "volume_ml", "reference_ml"]
    table = pd.DataFrame(rows, columns=names).assign(
        label_name="organ", hd95_mm=1.0, surface_dice=1.0
    )
    item = {"one": {"rows": table.to_dict("list")}}
    cohort = SimpleNamespace(n_labels=1, class_names=[], fingerprint=lambda: "same")
    cases, comparisons, *_ = collect_scores(cohort, NO_FILES, item, {}, EvaluationConfig())  # type: ignore[arg-type]
    row = comparisons.set_index(["first", "second"]).loc[("dream", "elastic")]
    networks = cases[cases["arm"].isin(list(arms))]
    plain = cases[cases["arm"] == "atlas"]
    checked = dream_ablation(NetEvidence(networks, plain, None, 1), AuditConfig())
    assert row["p"] == pytest.approx(2 / 2**8)
    assert row["p_holm"] == pytest.approx(4 * row["p"])
    assert checked.passed
    assert "dream - elastic: +0.0" in checked.detail
    assert f"p = {row['p_holm']:.3g}" in checked.detail
    against_plain = comparisons.set_index(["first", "second"]).loc[("learned", "atlas")]
    assert against_plain["p_holm"] == against_plain["p"]


def test_a_corrected_label_file_is_scored_again_though_the_common_grid_does_not_show_it() -> None:
    cohort = SimpleNamespace(cases=["a"], indices=lambda _: [0], fingerprint=lambda: "same")

    def key(label_content: str) -> str:
        table = pd.DataFrame({"case": ["a"], "split": ["test"], "label_content": [label_content]})
        return _plain_keys(cohort, table, FusionConfig(), EvaluationConfig())["a"]  # type: ignore[arg-type]

    assert key("before") == key("before") != key("after")


def test_the_mean_of_all_labels_is_the_one_that_arms_are_compared_by() -> None:
    """Where a label is rightly absent, drawing nothing is right."""
    rows = [["a", 0.8, 9, 9], ["b", None, 0, 0], ["b", 0.0, 0, 1]]
    cases = pd.DataFrame(rows, columns=["label_name", "dice", "reference_ml", "volume_ml"])
    means = _means(cases.assign(hd95_mm=1.0, surface_dice=1.0))
    assert means["dice_mean"] == pytest.approx(1.8 / 3)
    assert means["dice_b"] == 0
