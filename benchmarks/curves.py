"""What the scores of many draws say: means, intervals, and how many volumes an arm is worth."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

#: Ends the names of arms that learn from labelled volumes alone.
ALONE = "-alone"
#: Ends the names of arms whose warps are twice as strong.
STRONG = "-strong"
#: Ends the names of arms whose warps are rougher than the dreams.
ROUGH = "-rough"
ARMS = (
    "none", "classic", "elastic", "elastic-strong", "elastic-rough", "learned", "learned-strong",
    "learned-rough", "learned-alone", "dream", "dream-alone", "gated", "atlas",
    "elastic+atlas", "learned+atlas", "dream+atlas", "gated+atlas", "shape_features",
)  # fmt: skip
NAMES = {
    "atlas": "multi-atlas fusion",
    "shape_features": "plain classifier on shape features",
    "elastic": "random warps",
    "learned": "warps in learned directions",
    "elastic-strong": "random warps, twice as strong",
    "elastic-rough": "rougher random warps",
    "learned-rough": "rougher learned directions",
    "learned-strong": "learned directions, twice as strong",
    "learned-alone": "learned directions, of labelled volumes alone",
    "dream": "dreams",
    "dream-alone": "dreams, of labelled volumes alone",
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


@dataclass(frozen=True)
class Lead:
    """An arm beside random warps at one number of labelled volumes.

    Attributes:
        labelled: that number.
        mean: of the lead, that within draws.
        reached: how many labelled volumes random warps need to come as far: 0 or inf beyond the
            ends of their curve, NaN where it does not rise.
        limits: 95 % of the lead, of a bootstrap over draws and, within them, seeds; None where
            there are fewer draws than FEWEST_DRAWS, as below.
        student: 95 % of the lead by Student's t of the means of draws: the other is too narrow
            where draws are few.
        reached_limits: 95 % of `reached`, of that bootstrap.
    """

    labelled: int
    mean: float
    reached: float
    limits: tuple[float, float] | None = None
    student: tuple[float, float] | None = None
    reached_limits: tuple[float, float] | None = None


def leads(results: pd.DataFrame, arm: str, measure: str = "dice") -> list[Lead]:
    """An arm beside random warps, for each number of labelled volumes that has both.

    The curve of the random warps rises from one n to the next by its mean rise within the draws
    that have both, since those of a larger n may be fewer (a draw's volumes at n are among its
    volumes at any larger n), and is joined by straight lines over log n.
    """
    scores = per_draw(results, measure).unstack("arm")
    if RANDOM not in scores:
        return []
    own = scores[[RANDOM, arm]].dropna(subset=[RANDOM])
    rng = np.random.default_rng(0)
    ns = own.index.get_level_values("labelled").unique().sort_values().to_numpy()
    seeds = _by_draw(own, ns)
    found = _worth(_means(seeds, len(ns)), ns)
    again = [_worth(_means(_resampled(seeds, rng), len(ns)), ns) for _ in range(BOOTSTRAPS // 4)]
    parts = []
    for labelled, (lead, reached) in found.items():
        here = own.loc[labelled].dropna()
        of_draws = (here[arm] - here[RANDOM]).groupby(level="draw").mean()
        if len(of_draws) < FEWEST_DRAWS:
            parts.append(Lead(labelled, lead, reached))
            continue
        many, places = np.array([one[labelled] for one in again if labelled in one]).T
        low, high = np.percentile(many, [2.5, 97.5])
        places = places[~np.isnan(places)]
        first_last = None
        if len(places) and not np.isnan(reached):
            first, last = _quantiles(places)
            first_last = float(first), float(last)
        student = _student(of_draws, lead)
        parts.append(Lead(labelled, lead, reached, (low, high), student, first_last))
    return parts


def worth(results: pd.DataFrame, arm: str, measure: str = "dice") -> pd.DataFrame:
    """The `leads` of an arm as a table, "under" or "over" beyond the ends of the curve."""
    found = leads(results, arm, measure)
    ns = [int(n) for n in results.loc[results["arm"] == RANDOM, "labelled"].unique()]
    rows = []
    for one in found:
        lead, place, student = f"{one.mean:+.4f}", _place(one.reached, ns), "-"
        if one.limits and one.student:
            lead += f" ({one.limits[0]:+.4f} to {one.limits[1]:+.4f})"
            student = f"{one.student[0]:+.4f} to {one.student[1]:+.4f}"
        if one.reached_limits:
            first, last = (_place(limit, ns) for limit in one.reached_limits)
            place += f" ({first} to {last})"
        title = f"{NAMES.get(arm, arm)} - random warps"
        rows.append({"n": one.labelled, title: lead, "by Student's t": student, "worth n": place})
    return pd.DataFrame(rows)


def differences(
    results: pd.DataFrame, pairs: Sequence[tuple[str, str]], measure: str = "dice"
) -> pd.DataFrame:
    """Arms beside other arms, within draws and seeds: mean, Student's interval, how often ahead."""
    scores = per_draw(results, measure).unstack("arm")
    rows = []
    for labelled, own in scores.groupby(level="labelled"):
        for arm, other in pairs:
            lead = (own[arm] - own[other]).dropna()
            of_draws = lead.groupby(level="draw").mean()
            mean, student = of_draws.mean(), "-"
            if len(of_draws) >= FEWEST_DRAWS:
                low, high = _student(of_draws, mean)
                student = f"{low:+.4f} to {high:+.4f}"
            name = f"{NAMES.get(arm, arm)} - {NAMES.get(other, other)}"
            ahead = f"{int((lead > 0).sum())} of {len(lead)}"
            rows.append([labelled, name, f"{mean:+.4f}", student, ahead])
    return pd.DataFrame(rows, columns=["n", "difference", "mean", "by Student's t", "ahead in"])


def _student(of_draws: pd.Series, mean: float) -> tuple[float, float]:
    """95 % of their mean by Student's t."""
    error = of_draws.sem() * stats.t.ppf(0.975, len(of_draws) - 1)
    return mean - error, mean + error


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
    """The curves of the draws that all arms have, with bootstrap intervals, into a picture.

    Where random warps have a curve over three numbers of volumes or more, what arms are worth by it
    stands below. Where other numbers of volumes have several draws, one that has a single draw is
    left out, since it would leave that draw alone to compare.
    """
    draws = results.groupby("labelled")["draw"].nunique()
    results = results[results["labelled"].map((draws > 1) | (draws.max() == 1))]
    several = results.loc[results["arm"] == RANDOM, "labelled"].nunique() > 2
    figure = Figure(figsize=(6.4, 8 if several else 4), layout="constrained")
    axes, *below = figure.subplots(2 if several else 1, squeeze=False)[:, 0]
    shown = [arm for arm in ARMS if arm in set(results["arm"]) and arm not in ("none", "gated")]
    shown = [arm for arm in shown if not arm.endswith("+atlas")]
    colours = {arm: f"C{place}" for place, arm in enumerate(shown)}
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
        enough = all(
            part.index.get_level_values("draw").nunique() >= FEWEST_DRAWS for part in parts
        )
        error = [means - low, high - means] if enough else None
        beside = np.array(ns) * 1.015 ** (place - len(shown) / 2)
        name = NAMES.get(arm, arm)
        axes.errorbar(beside, means, error, label=name, color=colours[arm], capsize=2, marker=".")
    axes.set_ylabel(f"mean {MEASURES[measure]} of test subjects")
    axes.legend()
    _over_volumes(axes, results)
    for panel in below:
        _draw_worth(panel, results, measure, colours)
    figure.savefig(picture, dpi=130)


def _over_volumes(axes: Axes, results: pd.DataFrame) -> None:
    ticks = sorted(results["labelled"].unique())
    axes.set_xscale("log")
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    axes.set_xlabel("labelled volumes")


def _draw_worth(axes: Axes, results: pd.DataFrame, measure: str, colours: dict[str, str]) -> None:
    """Labelled volumes that random warps need to come as far, over those that an arm has."""
    ns = sorted(int(n) for n in results.loc[results["arm"] == RANDOM, "labelled"].unique())
    ends = np.array([ns[0], ns[-1]])
    axes.plot(ends, ends, color="0.6", label="as many")
    axes.plot(ends, 2 * ends, color="0.6", linestyle="--", label="twice as many")
    arms = [arm for arm in ("learned", "dream", "gated") if arm in set(results["arm"])]
    for place, arm in enumerate(arms):
        found = [one for one in leads(results, arm, measure) if not np.isnan(one.reached)]
        # beyond its ends their curve says no more than that it ends
        at = np.array([one.reached for one in found]).clip(*ends)
        limits = [one.reached_limits or (one.reached, one.reached) for one in found]
        low, high = np.array(limits).clip(*ends).T
        beside = np.array([one.labelled for one in found]) * 1.03 ** (place - 1)
        axes.errorbar(
            beside, at, [at - low, high - at], label=NAMES[arm], color=colours.get(arm, "0.2"),
            capsize=2, marker=".",
        )  # fmt: skip
    _over_volumes(axes, results)
    axes.set_yscale("log")
    axes.set_yticks(ns, ns)
    axes.minorticks_off()
    axes.set_ylim(ns[0] * 0.9, ns[-1] * 1.1)
    axes.set_ylabel("labelled volumes that random warps need")
    axes.legend()
