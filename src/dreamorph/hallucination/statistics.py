"""Small-sample statistics the checks share: exact where it can be, by subject always."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979). NaN counts as 1."""
    p = np.nan_to_num(np.asarray(p_values, float), nan=1.0)
    adjusted = np.empty(len(p))
    running = 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = running
    return adjusted.tolist()


def rate_upper_bound(count: float, n: int, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound of a rate; `count` may be fractional."""
    if n < 1:
        return float("nan")
    if count >= n:
        return 1.0
    return float(special.betaincinv(count + 1, n - count, confidence))


def rate_excess_p(rate: float, count: float, n: int) -> float:
    """Chance of so few as `count` among `n` real subjects if their true rate were `rate`.

    The test whose acceptance region is `rate <= rate_upper_bound(count, n, 1 - p)`.
    """
    if n < 1 or not np.isfinite(rate):
        return float("nan")
    if count >= n or rate <= 0:
        return 1.0
    return float(1 - special.betainc(count + 1, n - count, min(rate, 1.0)))


def subject_bootstrap(
    differences: np.ndarray, confidence: float, repeats: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of one value per subject `(n,)`."""
    generator = np.random.default_rng(seed)
    n = len(differences)
    if n == 0 or not np.isfinite(differences).all():
        return float("nan"), float("nan")
    means = differences[generator.integers(0, n, (repeats, n))].mean(axis=1)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def wilcoxon_exact(differences: np.ndarray) -> float:
    """Two-sided exact Wilcoxon signed-rank p, ties and all, over all 2^n signs.

    Zeros are dropped (Wilcoxon 1945). The distribution is built by convolution over doubled
    mid-ranks, so that ties stay whole numbers. NaN for non-finite input.
    """
    d = np.asarray(differences, float)
    if not np.isfinite(d).all():
        return float("nan")
    d = d[d != 0]
    if len(d) == 0:
        return 1.0
    size = np.abs(d)
    ranks = np.rint(2 * _mid_ranks(size)).astype(int)
    counts = np.ones(1)
    for rank in ranks:
        grown = np.zeros(len(counts) + rank)
        grown[: len(counts)] += 0.5 * counts
        grown[rank:] += 0.5 * counts
        counts = grown
    positive = int(ranks[d > 0].sum())
    tail = min(counts[: positive + 1].sum(), counts[positive:].sum())
    return float(min(1.0, 2 * tail))


def leave_out_groups(
    statistic: Callable[[np.ndarray], float], groups: Sequence[str]
) -> dict[str, float]:
    """`statistic(keep)` with each group's rows left out in turn; `keep` is a bool mask `(n,)`."""
    labels = np.asarray(groups, object)
    return {str(group): statistic(labels != group) for group in dict.fromkeys(groups)}


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
