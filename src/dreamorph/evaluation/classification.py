"""How well classes are told apart, with intervals over subjects."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy

from dreamorph.evaluation.statistics import CONFIDENCE, FEWEST_RESAMPLED

#: Resamplings of the subjects.
RESAMPLES = 2000


def accuracy(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of cases whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == true).mean())


def balanced_accuracy(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur of the share of their cases that were recognised."""
    correct = probabilities.argmax(axis=1) == true
    return float(np.mean([correct[true == c].mean() for c in np.unique(true)]))


def auc(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve; of more than two classes the mean of each against the rest.

    The chance that a case of the class gets a higher probability than a case of the rest, ties
    counting half (Mann-Whitney). NaN where only one class occurs.
    """
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = []
    for column in columns:
        positive = true == column
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            ranks = scipy.stats.rankdata(probabilities[:, column])
            areas.append((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
    return float(np.mean(areas)) if areas else float("nan")


_METRICS = {"auc": auc, "balanced_accuracy": balanced_accuracy, "accuracy": accuracy}


def classification_metrics(
    case_table: pd.DataFrame,
    class_names: Sequence[str],
    rng: np.random.Generator | None = None,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """AUC, balanced accuracy and accuracy of each arm, with percentile intervals.

    Subjects are resampled with all their cases, since these are not independent. AUC and balanced
    accuracy are not defined in a resampling that lacks a class of the table, which is left out; a
    class of one subject would then never vary, and leaves them without an interval.

    Args:
        case_table: as `evaluate_classification` gives it. Each seed of an arm is scored for itself
            and the scores are averaged: averaged answers would be those of an ensemble.
        class_names: of the columns `p_<class>`.
        rng: None is seeded with 0.
        confidence: of the intervals.

    Returns:
        Columns arm, metric, value, lower, upper, n_cases, n_subjects.
    """
    rng = rng or np.random.default_rng(0)
    columns = [f"p_{name}" for name in class_names]
    rows = []
    for arm, cases in case_table.groupby("arm", sort=False):
        keys = ["subject", "case", "class"]
        seeds = [own.set_index(keys)[columns] for _, own in cases.groupby("seed")]
        merged = seeds[0].sort_index().reset_index()
        true = merged["class"].map({n: i for i, n in enumerate(class_names)}).to_numpy()
        answers = [own.sort_index().to_numpy() for own in seeds]
        every = _resamples(merged["subject"].to_numpy(), rng)
        whole = [d for d in every if len(np.unique(true[d])) == len(np.unique(true))]
        if merged.groupby("class")["subject"].nunique().min() < 2:
            whole = []
        for name, metric in _METRICS.items():
            draws = every if name == "accuracy" else whole
            values = np.array(
                [_over_seeds(metric, true[d], [a[d] for a in answers]) for d in draws]
            )
            values = values[np.isfinite(values)]
            tail = (1 - confidence) / 2
            enough = len(values) > 0
            bounds = np.quantile(values, [tail, 1 - tail]) if enough else [np.nan, np.nan]
            rows.append(
                {
                    "arm": arm,
                    "metric": name,
                    "value": _over_seeds(metric, true, answers),
                    "lower": float(bounds[0]),
                    "upper": float(bounds[1]),
                    "n_cases": len(merged),
                    "n_subjects": merged["subject"].nunique(),
                }
            )
    return pd.DataFrame(rows)


def _over_seeds(
    metric: Callable[[np.ndarray, np.ndarray], float], true: np.ndarray, answers: list[np.ndarray]
) -> float:
    """Mean of a metric over the networks of an arm."""
    return float(np.mean([metric(true, one) for one in answers]))


def _resamples(subjects: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of resampled subjects; none where they are too few for an interval."""
    names, codes = np.unique(subjects, return_inverse=True)
    if len(names) < FEWEST_RESAMPLED:
        return []
    rows = [np.flatnonzero(codes == c) for c in range(len(names))]
    draws = rng.integers(len(names), size=(RESAMPLES, len(names)))
    return [np.concatenate([rows[c] for c in draw]) for draw in draws]
