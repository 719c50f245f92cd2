from dataclasses import replace

import numpy as np
import pytest

from dreamorph.evaluation import Scored, evaluate_segmentation
from dreamorph.hallucination import AuditConfig, with_absent_labels
from dreamorph.hallucination.comparisons import paired_difference
from dreamorph.hallucination.dream_ablation import dream_ablation
from tests.hallucination.worlds import net_evidence

CONFIG = AuditConfig()
NAMES = {1: "organ", 2: "tumour"}


def scored(arm, subject, tumour, drawn):
    """One case: the organ found, a tumour there or not and drawn or not."""
    found, true = np.zeros((2, 8, 8, 8), np.uint8)
    found[1:3], true[1:3] = 1, 1
    true[5:7] = 2 * tumour
    found[5:7] = 2 * drawn
    return evaluate_segmentation(Scored(arm, subject, subject), found, true, (1, 1, 1), NAMES)


def test_a_label_rightly_absent_counts_one_and_one_drawn_where_there_is_none_counts_zero():
    dice = [
        with_absent_labels(scored("a", "s", tumour, drawn))["dice"].tolist()
        for tumour, drawn in ((True, True), (False, False), (False, True), (True, False))
    ]
    assert dice == [[1, 1], [1, 1], [1, 0], [1, 0]]


def test_canary_the_arm_that_draws_what_is_absent_is_not_the_better_one():
    right, wrong = (
        with_absent_labels(scored(arm, "s", False, arm == "wrong")) for arm in ("right", "wrong")
    )
    assert paired_difference(right, wrong, "dice", CONFIG).mean == pytest.approx(0.5)


def test_a_label_rightly_absent_does_not_spoil_a_comparison():
    evidence = net_evidence(dream=0.86, elastic=0.84)
    volumes = np.where(evidence.cases["label"] == 1, 1.0, 2.0)
    cases = evidence.cases.assign(volume_ml=volumes, reference_ml=volumes)
    absent = (cases["case"] == "0L") & (cases["label"] == 2)
    cases.loc[absent, "dice"] = np.nan
    cases.loc[absent, ["volume_ml", "reference_ml"]] = 0.0
    assert dream_ablation(replace(evidence, cases=cases), CONFIG).passed is False
    assert dream_ablation(replace(evidence, cases=with_absent_labels(cases)), CONFIG).passed


@pytest.mark.parametrize(
    ("volume", "reference"), [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (np.nan, 0.0), (0.0, np.nan)]
)
def test_canary_any_other_nan_stays(volume, reference):
    cases = net_evidence().cases.assign(volume_ml=1.0, reference_ml=1.0)
    cases.loc[3, ["dice", "volume_ml", "reference_ml"]] = np.nan, volume, reference
    assert with_absent_labels(cases)["dice"].isna().sum() == 1
