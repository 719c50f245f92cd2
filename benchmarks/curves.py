"""What the scores of many draws say: means, intervals, and how many volumes an arm is worth."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

ARMS = (
    "none", "classic", "elastic", "learned", "dream", "gated", "atlas", "elastic+atlas",
    "learned+atlas", "dream+atlas", "gated+atlas", "shape_features",
)  # fmt: skip
NAMES = {
    "atlas": "multi-atlas fusion",
    "shape_features": "plain classifier on shape features",
    "elastic": "random warps",
    "learned": "warps in learned directions",
    "dream": "dreams",
    "gated": "what tuning recommends",
    "elastic+atlas": "random warps, averaged with fusion",
    "learned+atlas": "warps in learned directions, averaged with fusion",
    "dream+atlas": "dreams, averaged with fusion",
    "gated+atlas": "what tuning recommends, averaged with fusion",
}
MEASURES = {"dice": "Dice", "auc": "AUC", "accuracy": "accuracy"}
BOOTSTRAPS = 2000
RANDOM = "elastic"
#: Fewer draws say nothing of what other draws would give.
FEWEST_DRAWS = 4


def per_draw(results: pd.DataFrame, measure: str = "dice") -> pd.Series:
    """Mean score by labelled, arm, draw and seed: over labels, then cases, then subjects."""
    levels = ["labelled", "arm", "draw", "seed"]
    by_case = results.groupby([*levels, "subject", "case"])[measure].mean()
    return by_case.groupby([*levels, "subject"]).mean().groupby(levels).mean()


def bootstrapped(values: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap means of an arm: draws with replacement, and within each draw its seeds."""
    draws = [own.to_numpy(dtype=float) for _, own in values.groupby(level="draw")]
    means = []
    for _ in range(BOOTSTRAPS):
        picked = [draws[k] for k in rng.integers(len(draws), size=len(draws))]
        means.append(np.mean([_again(own, rng).mean() for own in picked]))
    return np.array(means)


def summary(results: pd.DataFrame, measure: str = "dice") -> pd.DataFrame:
    """One row an arm, one column a number of labelled volumes: mean and 95 % interval."""
    scores = per_draw(results, measure)
    rows = []
    for arm in [arm for arm in ARMS if arm in set(results["arm"])]:
        row: dict[str, object] = {"arm": NAMES.get(arm, arm)}
        for labelled in sorted(results["labelled"].unique()):
            row[f"n = {labelled}"] = _cell(scores, int(labelled), arm)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(scores: pd.Series, labelled: int, arm: str) -> str:
    if (labelled, arm) not in scores.index.droplevel(["draw", "seed"]):
        return "-"
    own = scores.loc[labelled, arm]
    mean = own.groupby(level="draw").mean().mean()
    draws = own.index.get_level_values("draw").nunique()
    if draws < FEWEST_DRAWS:
        return f"{mean:.4f}, {draws}, {len(own)}"
    low, high = np.percentile(bootstrapped(own, np.random.default_rng(0)), [2.5, 97.5])
    return f"{mean:.4f} ({low:.4f} to {high:.4f}), {draws}, {len(own)}"


def worth(results: pd.DataFrame, arm: str, measure: str = "dice") -> pd.DataFrame:
    """How many labelled volumes random warps need to come as far as an arm at n.

    The lead of an arm is that within draws. The curve of the random warps rises from one n to the
    next by its mean rise within the draws that have both, since those of a larger n may be fewer
    (a draw's volumes at n are among its volumes at any larger n), and is joined by straight lines
    over log n. Beyond its ends there is no answer but "under" or "over", and none where it does not
    rise. Intervals are of a bootstrap over draws and, within them, seeds; where draws are few that
    is too narrow, so beside it stands Student's of the means of draws. Fewer than FEWEST_DRAWS have
    none.
    """
    scores = per_draw(results, measure).unstack("arm")
    if RANDOM not in scores:
        return pd.DataFrame()
    own = scores[[RANDOM, arm]].dropna(subset=[RANDOM])
    rng = np.random.default_rng(0)
    ns = own.index.get_level_values("labelled").unique().sort_values().to_numpy()
    seeds = _by_draw(own, ns)
    found = _worth(_means(seeds, len(ns)), ns)
    again = [_worth(_means(_resampled(seeds, rng), len(ns)), ns) for _ in range(BOOTSTRAPS // 4)]
    rows = []
    for labelled, (lead, reached) in found.items():
        shown = [f"{lead:+.4f}", _place(reached, ns)]
        here = own.loc[labelled].dropna()
        per_draw_lead = (here[arm] - here[RANDOM]).groupby(level="draw").mean()
        student = "-"
        if len(per_draw_lead) >= FEWEST_DRAWS:
            error = per_draw_lead.sem() * stats.t.ppf(0.975, len(per_draw_lead) - 1)
            student = f"{lead - error:+.4f} to {lead + error:+.4f}"
            leads, places = np.array([one[labelled] for one in again if labelled in one]).T
            low, high = np.percentile(leads, [2.5, 97.5])
            shown[0] += f" ({low:+.4f} to {high:+.4f})"
            places = places[~np.isnan(places)]
            if len(places) and not np.isnan(reached):
                first, last = (_place(place, ns) for place in _quantiles(places))
                shown[1] += f" ({first} to {last})"
        title = f"{NAMES.get(arm, arm)} - random warps"
        rows.append(
            {"n": labelled, title: shown[0], "by Student's t": student, "worth n": shown[1]}
        )
    return pd.DataFrame(rows)


#: Scores of one draw: at which place of the ns, then `(seeds, 2)` of random warps and an arm.
Draw = list[tuple[int, np.ndarray]]


def _by_draw(scores: pd.DataFrame, ns: np.ndarray) -> list[Draw]:
    places = {n: place for place, n in enumerate(ns)}
    return [
        [(places[n], part.to_numpy(dtype=float)) for n, part in own.groupby(level="labelled")]
        for _, own in scores.groupby(level="draw")
    ]


def _resampled(draws: list[Draw], rng: np.random.Generator) -> list[Draw]:
    """Draws with replacement, each a new draw; within it and each n, its seeds."""
    picked = _again(np.arange(len(draws)), rng)
    return [[(place, _again(own, rng)) for place, own in draws[k]] for k in picked]


def _again(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many of them, with replacement."""
    return values[rng.integers(len(values), size=len(values))]


def _means(draws: list[Draw], count: int) -> np.ndarray:
    """Means over seeds, `(draws, count, 2)`; NaN where a draw has none."""
    means = np.full((len(draws), count, 2), np.nan)
    for row, draw in enumerate(draws):
        for place, own in draw:
            means[row, place] = _mean(own)
    return means


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of those that are there; NaN where none is."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _worth(means: np.ndarray, ns: np.ndarray) -> dict[int, tuple[float, float]]:
    """For each n the lead of an arm, and the n that random warps need: 0 or inf beyond the ends.

    NaN where the curve of the random warps does not rise.
    """
    there = np.isfinite(means[..., 0]).any(axis=0)  # a resample may lack some n
    means, ns = means[:, there], ns[there]
    random, arm = means[..., 0], means[..., 1]
    leads = _mean(arm - random)
    heights = _mean(random[:, 0]) + np.cumsum(np.append(0.0, _mean(np.diff(random, axis=1))))
    known, own = np.isfinite(heights), ns.astype(float)
    own, curve = own[known], np.maximum.accumulate(heights[known])
    rising = np.diff(curve, prepend=-np.inf) > 0  # where it does not, its first n will do
    own, curve = own[rising], curve[rising]
    found = {}
    for n, lead, height in zip(ns, leads, heights, strict=True):
        score = height + lead
        if np.isfinite(score):
            at = np.exp(np.interp(score, curve, np.log(own), left=-np.inf, right=np.inf))
            found[int(n)] = float(lead), float(at) if len(own) > 1 else np.nan
    return found


def _quantiles(places: np.ndarray) -> np.ndarray:
    # beyond the ends they are infinite, and cannot be averaged
    return np.quantile(places, [0.025, 0.975], method="nearest")


def _place(reached: float, ns: Collection[int]) -> str:
    if np.isnan(reached):
        return "-"
    if not 0 < reached < np.inf:
        return f"under {min(ns)}" if reached == 0 else f"over {max(ns)}"
    return f"{reached:.1f}"


def of_common_draws(scores: pd.Series) -> pd.Series:
    """The draws that have, at every n, all arms which are there at that n: others do not compare.

    Neither between arms nor along a curve, since some draws are harder than others.
    """
    arms = scores.groupby(level=["labelled", "draw"]).transform(_arms)
    whole = scores[arms == arms.groupby(level="labelled").transform("max")]
    draws = whole.index.get_level_values("draw")
    at = [set(part.index.get_level_values("draw")) for _, part in whole.groupby(level="labelled")]
    return whole[draws.isin(set.intersection(*at))]


def _arms(own: pd.Series) -> int:
    return int(own.index.get_level_values("arm").nunique())


def draw_curves(results: pd.DataFrame, measure: str, picture: Path) -> None:
    """The curves of the draws that all arms have, with bootstrap intervals, into a picture."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    shown = [arm for arm in ARMS if arm in set(results["arm"]) and arm not in ("none", "gated")]
    shown = [arm for arm in shown if not arm.endswith("+atlas")]
    scores = of_common_draws(per_draw(results[results["arm"].isin(shown)], measure))
    for place, arm in enumerate(shown):
        ns = sorted(scores.xs(arm, level="arm").index.get_level_values("labelled").unique())
        parts = [scores.loc[n, arm] for n in ns]
        means = [part.groupby(level="draw").mean().mean() for part in parts]
        limits = [
            np.percentile(bootstrapped(part, np.random.default_rng(0)), [2.5, 97.5])
            for part in parts
        ]
        low, high = np.array(limits).T
        several = all(
            part.index.get_level_values("draw").nunique() >= FEWEST_DRAWS for part in parts
        )
        error = [means - low, high - means] if several else None
        beside = np.array(ns) * 1.015 ** (place - len(shown) / 2)
        axes.errorbar(beside, means, error, label=NAMES.get(arm, arm), capsize=2, marker=".")
    axes.set_xscale("log")
    axes.set_xticks(sorted(results["labelled"].unique()), sorted(results["labelled"].unique()))
    axes.minorticks_off()
    axes.set_xlabel("labelled volumes")
    axes.set_ylabel(f"mean {MEASURES[measure]} of test subjects")
    axes.legend()
    figure.savefig(picture, dpi=130)
