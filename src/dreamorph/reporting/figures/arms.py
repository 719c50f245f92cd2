"""Arms compared: every test subject, every difference, every training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dreamorph.evaluation import (
    bootstrap_interval,
    classification_metrics,
    subject_means,
    with_absent_labels,
)
from dreamorph.reporting.figures import planes
from dreamorph.reporting.inputs import NETWORK_ARMS, ReportInputs, outlined_cohort
from dreamorph.reporting.style import (
    CLASS_MARKS,
    FAINT,
    GRID,
    INK,
    arm_mark,
    new_figure,
    plain,
    styled,
)
from dreamorph.reporting.wording import HIGHER_IS_BETTER, METRIC_NAMES, MINUS, UNITS

_WORST = 3
_METRICS = ("dice", "surface_dice", "hd95_mm")
_PREDICTED_LINE = {"colour": "white", "style": (0, (1, 1.2)), "width": 1.1}
_NOT_CURVES = ("lr", "learning_rate", "epoch")
_NO_CASES = "No test case was scored."


@styled
def scores(inputs: ReportInputs) -> Figure | str:
    """Mean and interval of each arm with a point for every test subject."""
    if not inputs.arms:
        return _NO_CASES
    if inputs.task == "classification":
        return _classification_scores(inputs)
    metrics = [m for m in _METRICS if m in inputs.cases and inputs.cases[m].notna().any()]
    if not metrics:
        return "No measure of segmentation could be computed on the test cases."
    figure = new_figure(9.6, 0.42 * len(inputs.arms) + 1.1)
    axes = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        known = metric == "dice" and {"volume_ml", "reference_ml"} <= set(inputs.cases)
        means = subject_means(with_absent_labels(inputs.cases) if known else inputs.cases, metric)
        for place, arm in enumerate(inputs.arms):
            values = means[arm].dropna().to_numpy() if arm in means else np.array([])
            low, high = bootstrap_interval(values, np.random.default_rng(0))
            middle = float(values.mean()) if len(values) else float("nan")
            _arm_row(ax, place, arm, values, (middle, low, high))
        ax.set_title(f"{METRIC_NAMES[metric]}{UNITS[metric]}")
        _better(ax, metric)
    _arm_axis(axes[0], inputs.arms)
    return figure


@styled
def differences(inputs: ReportInputs) -> Figure | str:
    """Paired differences between arms with their intervals."""
    table = inputs.comparisons
    if table.empty:
        return "No two arms were compared."
    groups = list(table.groupby("metric", sort=False))[:3]
    rows = max(len(own) for _, own in groups)
    figure = new_figure(9.6, 0.36 * rows * len(groups) + 0.75 * len(groups))
    heights = [len(own) + 1 for _, own in groups]
    axes = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax, (metric, own) in zip(axes[:, 0], groups, strict=True):
        _forest(ax, str(metric), own)
    return figure


@styled
def curves(inputs: ReportInputs) -> Figure | str:
    """Training curves of every arm and seed."""
    if inputs.history.empty:
        return "No training curve was recorded."
    recorded = dict.fromkeys(str(metric) for metric in inputs.history["metric"])
    metrics = [m for m in recorded if m.rpartition("/")[2] not in _NOT_CURVES][:3]
    if not metrics:
        return "No training curve was recorded."
    trained = [str(arm) for arm in inputs.history["arm"].unique()]
    order = [arm for arm in NETWORK_ARMS if arm in trained]
    order += sorted(set(trained) - set(order))
    figure = new_figure(9.6, 3.2)
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        own = inputs.history[inputs.history["metric"] == metric]
        for arm in order:
            _curve(ax, arm, own[own["arm"] == arm])
        ax.set_title(plain(metric))
        ax.set_xlabel("step")
        ax.grid(color=GRID, linewidth=0.7)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def worst_cases(inputs: ReportInputs) -> list[tuple[str, float]]:
    """Test cases that the dream arm segments worst, with their mean Dice; worst first.

    By its first training, whose predictions the report has.
    """
    if inputs.task != "segmentation" or not inputs.predictions or "dice" not in inputs.cases:
        return []
    own = inputs.cases[inputs.cases["arm"] == "dream"]
    first = own[own["seed"] == own["seed"].min()]
    means = first.groupby("case")["dice"].mean().dropna().sort_values()
    known = [c for c in means.index if c in inputs.predictions and c in inputs.cohort.cases]
    return [(str(case), float(means[case])) for case in known[:_WORST]]


@styled
def worst(inputs: ReportInputs) -> Figure | str:
    """The worst cases of the dream arm with reference and predicted outlines."""
    cases = worst_cases(inputs)
    if not cases or inputs.predictions is None:
        return "No prediction of the dream arm was handed to the report, so none can be shown."
    volumes = outlined_cohort(inputs)
    rows = [inputs.cohort.index_of(case) for case, _ in cases]
    box = planes.bounds(volumes.masks[rows])
    widths = [cut.size_mm[0] for cut in planes.cuts((0, 0, 0), volumes.spacing_mm, box)]
    tallest = max(cut.size_mm[1] for cut in planes.cuts((0, 0, 0), volumes.spacing_mm, box))
    figure = new_figure(8.6, len(cases) * 8.2 * tallest / sum(widths) + 0.6)
    axes = figure.subplots(len(cases), 3, squeeze=False, gridspec_kw={"width_ratios": widths})
    for line, row, (case, dice) in zip(axes, rows, cases, strict=True):
        predicted = np.asarray(inputs.predictions[case]).reshape(inputs.cohort.shape)
        at = planes.focus(volumes.labels[row, 0], volumes.masks[row, 0])
        levels = planes.window(volumes.images[row], volumes.masks[row])
        for ax, cut in zip(line, planes.cuts(at, volumes.spacing_mm, box), strict=True):
            planes.show(ax, volumes.images[row, 0], cut, levels, volumes.masks[row, 0])
            planes.contours(ax, volumes.labels[row, 0], cut)
            planes.contours(ax, predicted, cut, **_PREDICTED_LINE)
            planes.letters(ax, cut)
        line[0].set_ylabel(f"{plain(case, 20)}\nmean Dice {dice:.2f}")
    for ax, plane in zip(axes[0], planes.PLANES, strict=True):
        ax.set_title(plane.name)
    planes.legend(figure, volumes.names, {"predicted": {"color": "white", "linestyle": ":"}})
    return figure


def _classification_scores(inputs: ReportInputs) -> Figure | str:
    try:
        table = classification_metrics(inputs.cases, inputs.cohort.class_names)
    except KeyError as error:
        return f"The table of cases has no column {error}, so the arms cannot be compared."
    metrics = [m for m in ("auc", "balanced_accuracy") if table.metric.eq(m).any()]
    figure = new_figure(9.6, 0.42 * len(inputs.arms) + 1.1)
    axes = figure.subplots(1, len(metrics) + 1, squeeze=False, sharey=True)[0]
    _true_class(axes[-1], inputs)
    for ax, metric in zip(axes, metrics, strict=False):
        own = table[table["metric"] == metric].set_index("arm").to_dict("index")
        for place, arm in enumerate(inputs.arms):
            row = own[arm]
            summary = (row["value"], row["lower"], row["upper"])
            _arm_row(ax, place, arm, np.array([]), summary)
        chance = 0.5 if metric == "auc" else 1 / max(1, len(inputs.cohort.class_names))
        ax.axvline(chance, color=FAINT, linewidth=0.8, linestyle=":")
        ax.set_title(METRIC_NAMES[metric] + " (dotted: chance)")
    _arm_axis(axes[0], inputs.arms)
    return figure


def _true_class(ax: Axes, inputs: ReportInputs) -> None:
    """Every test subject's probability of its true class; classes lie above each other."""
    names = inputs.cohort.class_names
    cases = inputs.cases
    columns = [f"p_{name}" for name in names]
    given = cases[columns].to_numpy(dtype=float)
    codes = cases["class"].map({name: k for k, name in enumerate(names)}).to_numpy(dtype=int)
    own = cases.assign(p=given[np.arange(len(cases)), codes])
    step = 0.7 / max(1, len(names))
    for k, name in enumerate(names):
        colour, symbol = CLASS_MARKS[k % len(CLASS_MARKS)]
        part = own[own["class"] == name]
        for place, arm in enumerate(inputs.arms):
            values = part[part["arm"] == arm].groupby("subject")["p"].mean().to_numpy()
            jitter = np.random.default_rng(0).uniform(-0.35, 0.35, len(values)) * step
            height = place + (k - (len(names) - 1) / 2) * step + jitter
            ax.scatter(
                values, height, s=9, c=colour, marker=symbol, alpha=0.55, linewidths=0,
                label=plain(name, 18) if place == 0 else None,
            )  # fmt: skip
    ax.axvline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
    ax.set_xlim(-0.03, 1.03)
    ax.set_title("Probability of the true class")
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower right", ncols=len(names))


def _arm_row(
    ax: Axes, place: int, arm: str, values: np.ndarray, summary: tuple[float, float, float]
) -> None:
    mark = arm_mark(arm)
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(values))
    ax.scatter(values, place + jitter, s=9, c=mark.colour, alpha=0.45, linewidths=0)
    middle, low, high = summary
    ax.hlines(place, low, high, color=INK, linewidth=1.8, zorder=3)
    ax.scatter([middle], [place], s=46, c=mark.colour, marker=mark.symbol, edgecolors=INK, zorder=4)


def _arm_axis(ax: Axes, arms: list[str]) -> None:
    ax.set_yticks(range(len(arms)), [plain(arm_mark(arm).name) for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    for each in ax.figure.axes:
        each.grid(axis="x", color=GRID, linewidth=0.7)


def _better(ax: Axes, metric: str) -> None:
    ax.set_xlabel("higher is better →" if HIGHER_IS_BETTER[metric] else "← lower is better")


def _forest(ax: Axes, metric: str, table: pd.DataFrame) -> None:
    names = []
    for place, row in enumerate(table.to_dict("records")):
        ax.hlines(place, row["lower"], row["upper"], color=INK, linewidth=1.8)
        mark = arm_mark(row["first"])
        ax.scatter([row["difference"]], [place], s=46, c=mark.colour, marker=mark.symbol, zorder=3)
        second = arm_mark(row["second"]).name
        names.append(f"{plain(mark.name)} {MINUS} {plain(second)}")
    ax.axvline(0, color=FAINT, linewidth=0.9)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    side = "right of zero" if HIGHER_IS_BETTER.get(metric, True) else "left of zero"
    name = plain(METRIC_NAMES.get(metric, metric))
    ax.set_title(f"Difference in {name}{UNITS.get(metric, '')}; {side}: the first is better")
    ax.grid(axis="x", color=GRID, linewidth=0.7)


def _curve(ax: Axes, arm: str, table: pd.DataFrame) -> None:
    mark = arm_mark(arm)
    wide = table.pivot_table(index="step", columns="seed", values="value")
    width = max(1, len(wide) // 60)
    smooth = wide.rolling(width, min_periods=1).mean().iloc[:: max(1, width // 2)]
    for seed in smooth:
        ax.plot(smooth.index, smooth[seed], color=mark.colour, linewidth=0.5, alpha=0.5)
    ax.plot(
        smooth.index, smooth.mean(axis=1), color=mark.colour, linewidth=1.4, label=plain(mark.name),
        marker=mark.symbol, markersize=4, markevery=max(1, len(smooth) // 6),
    )  # fmt: skip
