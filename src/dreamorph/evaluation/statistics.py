"""Differences between arms, per subject, for few subjects.

Cases of a subject are averaged first, because they are not independent. The p-value is that of the
exact Wilcoxon signed-rank test, the interval comes from a bootstrap over subjects, and p-values are
corrected for the number of comparisons (Holm).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy

#: With five subjects the smallest two-sided p-value is 1/16: no difference could be significant.
FEWEST_SUBJECTS = 6
#: Two subjects have three resamples, three have ten: no interval of 95 % can come of that.
FEWEST_RESAMPLED = 4
RESAMPLES = 5000
#: Of every interval that is reported, and one minus the level of every test.
CONFIDENCE = 0.95
#: Scores that differ by less, relative to the largest one, are the same.
ROUNDING = 2.0**-30
COLUMNS = [
    "first", "second", "metric", "n_subjects", "mean_first", "mean_second",
    "difference", "lower", "upper", "p", "p_holm", "note",
]  # fmt: skip


def compare_arms(
    case_table: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    metric: str = "dice",
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Paired differences `first - second` of a metric.

    Args:
        case_table: columns arm, subject and the metric; as many rows for a subject as it has
            cases, labels and seeds, all averaged. Rows with NaN do not count.
        pairs: arms to compare. Arms without a common subject give a row that says so.
        metric: column to compare.
        seed: of the bootstrap, the same for every comparison.
        confidence: of the interval.

    Returns:
        One row per pair: first, second, metric, n_subjects, mean_first, mean_second, difference,
        lower, upper, p, p_holm, note. Below six subjects p is None and the note begins with
        'underpowered'.
    """
    means = subject_means(case_table, metric)
    rows = [_compare(means, first, second, seed, confidence) for first, second in pairs]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["metric"] = metric
    # Columns of objects keep None apart from a number that is not one.
    table["p"] = pd.Series([row["p"] for row in rows], dtype=object)
    table["p_holm"] = pd.Series(holm([row["p"] for row in rows]), dtype=object)
    return table


def subject_means(case_table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean of a metric per subject (rows) and arm (columns); NaN where a subject has none.

    Labels are averaged within a case, cases within a subject: a case with more labels or a subject
    with more cases weighs no more.
    """
    keys = [c for c in ("arm", "subject", "case") if c in case_table]
    per_case = case_table.groupby(keys)[metric].mean().reset_index()
    return per_case.groupby(["arm", "subject"])[metric].mean().unstack("arm")


def wilcoxon_exact(differences: np.ndarray) -> float:
    """Two-sided exact p-value of the Wilcoxon signed-rank test, with ties and zeros.

    Zeros are dropped and ties share their mean rank (Wilcoxon 1945); the distribution over all
    signs is then counted out, so the p-value stays exact, which `scipy.stats.wilcoxon` gives only
    where there are no ties. Without any difference p is 1.
    """
    values = np.asarray(differences, dtype=float)
    values = values[values != 0]
    if len(values) == 0:
        return 1.0
    doubled = np.rint(2 * scipy.stats.rankdata(np.abs(values))).astype(int)
    total = int(doubled.sum())
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[: total + 1 - rank]
        chances = (chances + shifted) / 2
    smaller = min(int(doubled[values > 0].sum()), int(doubled[values < 0].sum()))
    return float(min(1.0, 2 * chances[: smaller + 1].sum()))


def paired(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`first - second`, rid of rounding: what means of equal scores differ by is no difference.

    Ranks would else tell ties apart, and count as signs what should be zeros.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    sizes = np.abs(np.concatenate([np.ravel(first), np.ravel(second)]).astype(float))
    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0))
    if largest == 0:
        return difference
    unit = 2.0 ** math.floor(math.log2(largest)) * ROUNDING
    return np.asarray(np.rint(difference / unit) * unit)


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval of the mean by resampling subjects, bias-corrected and accelerated.

    Efron, JASA 1987. With few subjects such intervals are too narrow, with fewer than
    `FEWEST_RESAMPLED` there is none: it is NaN. Without spread it is the mean itself.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < FEWEST_RESAMPLED:
        return float("nan"), float("nan")
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return float(values.mean()), float(values.mean())
    result = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        rng=rng,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (Holm 1979); None stays None and does not count."""
    known = [(p, i) for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for place, (p, index) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, p * (len(known) - place)))
        adjusted[index] = largest
    return adjusted


def _compare(
    means: pd.DataFrame, first: str, second: str, seed: int, confidence: float
) -> dict[str, Any]:
    both = means.reindex(columns=list(dict.fromkeys((first, second)))).dropna()
    values = both[first].to_numpy(), both[second].to_numpy()
    difference = paired(*values)
    count = len(difference)
    lower, upper = bootstrap_interval(difference, np.random.default_rng(seed), confidence)
    enough = count >= FEWEST_SUBJECTS
    return {
        "first": first,
        "second": second,
        "n_subjects": count,
        "mean_first": _mean(values[0]),
        "mean_second": _mean(values[1]),
        "difference": _mean(difference),
        "lower": lower,
        "upper": upper,
        "p": wilcoxon_exact(difference) if enough else None,
        "note": _note(count, int((difference == 0).sum())),
    }


def _note(count: int, zeros: int) -> str:
    if count < FEWEST_SUBJECTS:
        return f"underpowered: {count} subjects, at least {FEWEST_SUBJECTS} needed for a p-value"
    return f"{zeros} of {count} tied" if zeros else ""


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
