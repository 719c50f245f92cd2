"""Case tables: one row per arm, seed, case and label, or per arm, seed and case for classes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from dreamorph.evaluation.metrics import label_agreement

SEGMENTATION_COLUMNS = [
    "arm", "seed", "case", "subject", "label", "label_name",
    "dice", "hd95_mm", "surface_dice", "volume_ml", "reference_ml",
]  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Whose result is scored.

    Attributes:
        arm: such as `dream`, or the name of a baseline.
        case, subject: of the cohort.
        seed: of the training.
    """

    arm: str
    case: str
    subject: str
    seed: int = 0


def evaluate_segmentation(
    scored: Scored,
    predicted: np.ndarray | torch.Tensor,
    reference: np.ndarray | torch.Tensor,
    spacing_mm: Sequence[float],
    label_names: Mapping[int, str],
    tolerance_mm: float = 1.0,
) -> pd.DataFrame:
    """Score one case, label by label.

    Args:
        scored: whose result this is.
        predicted: integers `(*shape)`, or probabilities `(L, *shape)` with background first.
        reference: integers `(*shape)` on the same grid.
        spacing_mm: voxel size of that grid.
        label_names: labels to score, background excepted.
        tolerance_mm: of the surface Dice.

    Returns:
        Columns arm, seed, case, subject, label, label_name, dice, hd95_mm, surface_dice,
        volume_ml, reference_ml; see `metrics` for absent labels.
    """
    truth = _array(reference)
    labels = _array(predicted)
    if labels.ndim == truth.ndim + 1:
        labels = labels.argmax(axis=0)
    rows = []
    for label, name in sorted(label_names.items()):
        agreement = label_agreement(labels == label, truth == label, spacing_mm, tolerance_mm)
        rows.append({**asdict(scored), "label": label, "label_name": name, **asdict(agreement)})
    return pd.DataFrame(rows, columns=SEGMENTATION_COLUMNS)


def evaluate_classification(
    scored: Sequence[Scored],
    probabilities: np.ndarray | torch.Tensor,
    classes: Sequence[int],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Table of cases with the probability of every class.

    Args:
        scored: whose results these are, N of them.
        probabilities: `(N, K)`.
        classes: true class of each case.
        class_names: names of the K classes.

    Returns:
        Columns arm, seed, case, subject, class, predicted, correct, balanced_accuracy, and
        `p_<class>` for each. The mean of `balanced_accuracy` over subjects, of the mean over the
        cases of each, is that metric with a case weighing one over the cases of its subject: a
        correct answer counts the more, the fewer subjects its class has.
    """
    values = _array(probabilities)
    if values.shape != (len(scored), len(class_names)):
        raise ValueError(
            f"probabilities have shape {values.shape}, expected {(len(scored), len(class_names))}: "
            "one row per case and one column per class"
        )
    table = pd.DataFrame([asdict(s) for s in scored], columns=["arm", "seed", "case", "subject"])
    table["class"] = [class_names[c] for c in classes]
    table["predicted"] = [class_names[c] for c in values.argmax(axis=1)]
    table["correct"] = (table["class"] == table["predicted"]).astype(float)
    table["balanced_accuracy"] = table["correct"] * class_balance(table["class"], table["subject"])
    for column, name in enumerate(class_names):
        table[f"p_{name}"] = values[:, column].astype(float)
    return table


def with_absent_labels(cases: pd.DataFrame) -> pd.DataFrame:
    """The case table with a Dice of 1 where a label is rightly absent, alike for all arms.

    A label absent from reference and prediction has no Dice, one drawn where there is none has 0.
    An arm that rightly draws nothing then neither spoils a comparison nor is left out of it, which
    would favour the arm that draws. Any other NaN stays.

    Args:
        cases: columns dice, volume_ml and reference_ml, as `evaluate_segmentation` gives them.
    """
    right = cases["dice"].isna() & (cases["reference_ml"] == 0) & (cases["volume_ml"] == 0)
    return cases.assign(dice=cases["dice"].mask(right, 1.0))


def class_balance(classes: pd.Series, subjects: pd.Series) -> pd.Series:
    """What each case counts, so that every class counts the same in a mean over subjects.

    Cases of a subject are averaged first, so a case is one over their number of a subject: a class
    of `w` such subjects among `n` subjects and `k` classes counts `n / (k w)`.
    """
    share = 1 / subjects.groupby(subjects).transform("size")
    of_class = share.groupby(classes).transform("sum")
    return subjects.nunique() / (classes.nunique() * of_class)


def _array(values: np.ndarray | torch.Tensor) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
