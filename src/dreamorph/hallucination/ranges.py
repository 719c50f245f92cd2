"""The default rule: dreams must stay inside the range of the real, one subject left out.

Each real subject is held against the range of the other real subjects, and each dream against the
range without its own source's subject. The two are then alike: a set of shapes judged by the same
number of others. How often the real fall outside is what the dreams may do too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamorph.hallucination.statistics import rate_excess_p, rate_upper_bound


@dataclass(frozen=True)
class Outside:
    """How often dreams and reals fall outside the range of the others.

    Attributes:
        dreams: share of dreams outside, in 0..1.
        reals: mean over real subjects of their share outside.
        n_subjects: how many real subjects that mean rests on.
        bound: upper confidence bound of the real rate.
        p: chance of a real rate so low if reals truly fell outside as often as the dreams do.
    """

    dreams: float
    reals: float
    n_subjects: int
    bound: float
    p: float


def outside_rates(
    real: np.ndarray,
    owners: Sequence[tuple[str, ...]],
    dreams: np.ndarray,
    sources: Sequence[str],
    percentiles: tuple[float | None, float],
    confidence: float,
) -> Outside:
    """Compare how often rows have any feature outside the others' percentile range.

    Args:
        real: `(n, features)`; NaN rows are ignored.
        owners: the subjects of each real row (two for a pair): a row belongs to each of them, and
            is out of the range of a subject that it belongs to.
        dreams: `(m, features)`; a NaN counts as outside.
        sources: the source subject of each dream.
        percentiles: of the range; no lower one leaves it open below.
        confidence: of the bound; a subject counts as one trial, however many rows it has.
    """
    usable = np.isfinite(real).all(axis=1)
    real, owners = real[usable], [o for o, keep in zip(owners, usable, strict=True) if keep]
    subjects = sorted({name for owner in owners for name in owner})
    limits, real_rates = {}, []
    for subject in subjects:
        own = np.array([subject in owner for owner in owners])
        if own.all():
            continue
        limits[subject] = _limits(real[~own], percentiles)
        real_rates.append(_any_outside(real[own], limits[subject]).mean())
    everyone = _limits(real, percentiles)
    flags = [
        bool(_any_outside(row[None], limits.get(source, everyone))[0])
        for row, source in zip(dreams, sources, strict=True)
    ]
    n = len(real_rates)
    rate = float(np.mean(real_rates)) if n else float("nan")
    share = float(np.mean(flags)) if flags else float("nan")
    bound = rate_upper_bound(rate * n, n, confidence) if n else float("nan")
    p = rate_excess_p(share, rate * n, n) if n else float("nan")
    return Outside(share, rate, n, bound, p)


def _limits(rows: np.ndarray, percentiles: tuple[float | None, float]) -> np.ndarray:
    if not len(rows):
        return np.full((2, 1), np.nan)
    low, high = percentiles
    below = np.full(rows.shape[1], -np.inf) if low is None else np.percentile(rows, low, axis=0)
    return np.stack([below, np.percentile(rows, high, axis=0)])


def _any_outside(rows: np.ndarray, limits: np.ndarray) -> np.ndarray:
    # 'not inside', so that NaN counts as outside
    return np.asarray(~((rows >= limits[0]) & (rows <= limits[1])).all(axis=1))
