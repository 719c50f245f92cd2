import numpy as np
import pytest
import torch

from dreamorph.evaluation import Scored, evaluate_segmentation
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
