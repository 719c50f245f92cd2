"""The default rule: dreams must stay inside the range of the real, one subject left out.

Each real subject is held against the range of the other real subjects, and each dream against the
range without its own source's subject. The two are then alike: a set of shapes judged by the same
number of others. How often the real fall outside is what the dreams may do too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamorph.hallucination.statistics import rate_upper_bound

#: Of fewer dreams a share says too little: twenty show twice a bound of 10 % in four cases of five.
LEAST_DREAMS = 20
#: The same of one class: its ten cases, which is the least, bound a share by 26 % or more, and ten
#: dreams show twice as much in nineteen cases of twenty.
LEAST_DREAMS_OF_CLASS = 10


@dataclass(frozen=True)
class Outside:
    """How often dreams and reals fall outside the range of the others.

    Attributes:
        dreams: share of dreams outside, in 0..1.
        reals: mean over real subjects of their share outside.
        n_subjects: how many real subjects that mean rests on.
        bound: upper confidence bound of the real rate.
        n_dreams: how many dreams the share rests on.
    """

    dreams: float
    reals: float
    n_subjects: int
    bound: float
    n_dreams: int


def outside_rates(
    real: np.ndarray,
    owners: Sequence[tuple[str, ...]],
    dreams: np.ndarray,
    sources: Sequence[str],
    percentiles: tuple[float | None, float],
    confidence: float,
    excused: np.ndarray | None = None,
    whole: bool = False,
) -> Outside:
    """Compare how often rows have any feature outside the others' percentile range.

    Args:
        real: `(n, features)`; a NaN is no feature of the row, as of a label that it lacks.
        owners: the subjects of each real row (two for a pair): a row belongs to each of them, and
            is out of the range of a subject that it belongs to.
        dreams: `(m, features)`; a NaN counts as outside unless excused.
        sources: the source subject of each dream.
        percentiles: of the range; no lower one leaves it open below.
        confidence: of the bound; a subject counts as one trial, however many rows it has.
        excused: bool `(m, features)`, features that the dream's own source lacks; None for none.
        whole: judge a subject by those of its rows alone that have the most features. A pair lacks
            what either subject lacks, where a dream has all that its source has.
    """
    usable = np.isfinite(real).any(axis=1)
    real, owners = real[usable], [o for o, keep in zip(owners, usable, strict=True) if keep]
    subjects = sorted({name for owner in owners for name in owner})
    limits, real_rates = {}, []
    for subject in subjects:
        own = np.array([subject in owner for owner in owners])
        if own.all():
            continue
        limits[subject] = limits_of(real[~own], percentiles)
        rows = real[own]
        if whole:
            features = np.isfinite(rows).sum(axis=1)
            rows = rows[features == features.max()]
        real_rates.append(_any_outside(rows, limits[subject], np.isnan(rows)).mean())
    everyone = limits_of(real, percentiles)
    lacking = np.isnan(dreams) & (False if excused is None else excused)
    flags = [
        bool(_any_outside(row[None], limits.get(source, everyone), may_lack[None])[0])
        for row, may_lack, source in zip(dreams, lacking, sources, strict=True)
    ]
    n = len(real_rates)
    rate = float(np.mean(real_rates)) if n else float("nan")
    share = float(np.mean(flags)) if flags else float("nan")
    bound = rate_upper_bound(rate * n, n, confidence) if n else float("nan")
    return Outside(share, rate, n, bound, len(flags))


def limits_of(rows: np.ndarray, percentiles: tuple[float | None, float]) -> np.ndarray:
    """Lower and upper limit of each feature, `(2, features)`; NaN where no row has it."""
    if not len(rows):
        return np.full((2, 1), np.nan)
    low, high = percentiles
    limits = np.full((2, rows.shape[1]), np.nan)
    for column, values in enumerate(rows.T):
        # no limit, and so nothing inside it, where nobody else has the feature
        if len(known := values[~np.isnan(values)]):
            least = -np.inf if low is None else np.percentile(known, low)
            limits[:, column] = least, np.percentile(known, high)
    return limits


def _any_outside(rows: np.ndarray, limits: np.ndarray, lacking: np.ndarray) -> np.ndarray:
    # 'not inside', so that NaN counts as outside
    inside = (rows >= limits[0]) & (rows <= limits[1])
    return np.asarray(~(inside | lacking).all(axis=1))
