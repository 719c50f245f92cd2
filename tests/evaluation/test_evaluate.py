import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.evaluation import Scored, compare_arms, evaluate_segmentation, with_absent_labels
from dreamorph.evaluation.evaluate import SEGMENTATION_COLUMNS

NAMES = {1: "anterior", 2: "posterior"}
SCORED = Scored("dream", "case_1", "subject_1", seed=3)


def reference() -> np.ndarray:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[3:7, 3:7, 2:5] = 1
    labels[3:7, 3:7, 5:8] = 2
    return labels


def test_one_row_per_label():
    table = evaluate_segmentation(SCORED, reference(), reference(), (1, 1, 2), NAMES)
    assert table.columns.tolist() == SEGMENTATION_COLUMNS
    assert table["label_name"].tolist() == ["anterior", "posterior"]
    assert (table[["dice", "surface_dice"]] == 1).all(axis=None)
    assert table["reference_ml"].tolist() == pytest.approx([48 * 2 / 1000] * 2)
    assert table[["arm", "seed", "case", "subject"]].drop_duplicates().values.tolist() == [
        ["dream", 3, "case_1", "subject_1"]
    ]


def test_probabilities_and_labels_give_the_same():
    labels = torch.from_numpy(reference()).roll(1, 0)
    probabilities = torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 0).float()
    tables = [
        evaluate_segmentation(SCORED, p, reference(), (1, 1, 2), NAMES)
        for p in (labels, probabilities)
    ]
    assert tables[0].equals(tables[1])
    assert tables[0]["dice"].tolist() == pytest.approx([0.75, 0.75])


def test_swapped_labels_are_caught():
    """A canary: the right voxels under the wrong names."""
    swapped = np.choose(reference(), [0, 2, 1])
    table = evaluate_segmentation(SCORED, swapped, reference(), (1, 1, 2), NAMES)
    assert (table["dice"] == 0).all()


def scored(arm, subject, tumour, drawn):
    """One case: the organ found, a tumour there or not and drawn or not."""
    found, true = np.zeros((2, 8, 8, 8), np.uint8)
    found[1:3], true[1:3] = 1, 1
    true[5:7] = 2 * tumour
    found[5:7] = 2 * drawn
    names = {1: "organ", 2: "tumour"}
    return evaluate_segmentation(Scored(arm, subject, subject), found, true, (1, 1, 1), names)


def test_a_label_rightly_absent_counts_one_and_one_drawn_where_there_is_none_counts_zero():
    dice = [
        with_absent_labels(scored("a", "s", tumour, drawn))["dice"].tolist()
        for tumour, drawn in ((True, True), (False, False), (False, True), (True, False))
    ]
    assert dice == [[1, 1], [1, 1], [1, 0], [1, 0]]


def test_canary_the_arm_that_draws_what_is_absent_is_not_as_good_as_the_one_that_does_not():
    arms = [("right", False), ("wrong", True)]
    table = pd.concat([scored(arm, f"s{k}", False, drawn) for arm, drawn in arms for k in range(6)])
    found = compare_arms(with_absent_labels(table), [("right", "wrong")]).iloc[0]
    assert (found["mean_first"], found["mean_second"]) == (1, 0.5)


@pytest.mark.parametrize(
    ("volume", "reference"), [(1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (np.nan, 0.0), (0.0, np.nan)]
)
def test_canary_any_other_nan_stays(volume, reference):
    table = scored("a", "s", True, True)
    table.loc[1, ["dice", "volume_ml", "reference_ml"]] = np.nan, volume, reference
    assert with_absent_labels(table)["dice"].isna().tolist() == [False, True]
