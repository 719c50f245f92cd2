"""Small-sample statistics the checks share: exact where it can be, by subject always."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

from dreamorph.evaluation import statistics


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979). NaN counts as 1."""
    known = np.nan_to_num(np.asarray(p_values, float), nan=1.0).tolist()
    return [p for p in statistics.holm(known) if p is not None]


def fewest_subjects(comparisons: int, level: float) -> int:
    """Least n at which Holm's smallest adjusted p over so many exact Wilcoxon tests is < level.

    The smallest two-sided p of n pairs is `2**(1 - n)`, times the number of comparisons.
    """
    n = 1
    while comparisons * 2.0 ** (1 - n) >= level:
        n += 1
    return n


def rate_upper_bound(count: float, n: int, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound of a rate; `count` may be fractional."""
    if n < 1:
        return float("nan")
    if count >= n:
        return 1.0
    return float(special.betaincinv(count + 1, n - count, confidence))


def leave_out_groups(
    statistic: Callable[[np.ndarray], float], groups: Sequence[str]
) -> dict[str, float]:
    """`statistic(keep)` with each group's rows left out in turn; `keep` is a bool mask `(n,)`."""
    labels = np.asarray(groups, object)
    return {str(group): statistic(labels != group) for group in dict.fromkeys(groups)}
