"""Real volumes beside the dreams made of them."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dreamorph.dreaming import Dreams
from dreamorph.reporting.figures import planes
from dreamorph.reporting.inputs import Outlined, ReportInputs, outlined, outlined_cohort
from dreamorph.reporting.style import (
    CLASS_MARKS,
    FAINT,
    INK,
    horizontal_grid,
    new_figure,
    plain,
    styled,
)

_SOURCES, _DREAMS_EACH = 4, 4
_SOURCE_LINE = {"colour": "white", "style": (0, (1, 1.2)), "width": 0.9}
_SOURCE_LEGEND = {"outline of the source": {"color": "white", "linestyle": ":"}}
_STRANGERS = "The dreams' sources are not cases of this cohort, so none can be shown beside."
_NONE = "No accepted dream was handed to the report."


@styled
def gallery(inputs: ReportInputs) -> Figure | str:
    """Rows: a real volume, then dreams made of it, all in the same slice."""
    if inputs.dreams is None or len(inputs.dreams) == 0:
        return _NONE
    chosen = _by_source(inputs.dreams, inputs.cohort.cases)
    if not chosen:
        return _STRANGERS
    real, dreamed = _both(inputs, inputs.dreams)
    plane = planes.reading_plane(real.labels, real.masks)
    columns = max(len(own) for own in chosen.values()) + 1
    rows = [inputs.cohort.index_of(source) for source in chosen]
    shown = [index for own in chosen.values() for index in own]
    box = planes.bounds(torch.cat([real.masks[rows], dreamed.masks[shown]]))
    cuts = [
        planes.cut(plane, planes.focus(real.labels[r, 0], real.masks[r, 0]), real.spacing_mm, box)
        for r in rows
    ]
    width = min(2.6, 9.6 / columns)
    figure = new_figure(width * columns, len(rows) * width * cuts[0].height + 0.75)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row, cut, (source, own) in zip(axes, rows, cuts, chosen.items(), strict=True):
        _gallery_row(line, (real, row), (dreamed, own), cut)
        line[0].set_ylabel(_row_name(inputs, source))
    axes[0, 0].set_title("source")
    for ax in axes[0, 1:]:
        ax.set_title("dream")
    if real.names:
        planes.legend(figure, real.names, _SOURCE_LEGEND)
    return figure


@styled
def three_planes(inputs: ReportInputs) -> Figure | str:
    """One real volume and one dream of it in three planes, and how far each point moved."""
    if inputs.dreams is None or len(inputs.dreams) == 0:
        return _NONE
    chosen = _by_source(inputs.dreams, inputs.cohort.cases)
    if not chosen:
        return _STRANGERS
    source, own = next(iter(chosen.items()))
    index, row = own[0], inputs.cohort.index_of(source)
    real, dreamed = _both(inputs, inputs.dreams)
    moved = inputs.dreams.transforms[[index]].displacement()[0].norm(dim=0)
    inside = dreamed.masks[index, 0]
    top = max(float(moved[inside].max()) if bool(inside.any()) else float(moved.max()), 1e-3)
    at = planes.focus(real.labels[row, 0], real.masks[row, 0])
    box = planes.bounds(torch.cat([real.masks[[row]], dreamed.masks[[index]]]))
    cuts = planes.cuts(at, real.spacing_mm, box)
    heights = [cut.height for cut in cuts]
    figure = new_figure(8.6, 2.5 * sum(heights) + 0.7)
    axes = figure.subplots(3, 3, squeeze=False, gridspec_kw={"height_ratios": heights})
    levels = planes.window(real.images[row], real.masks[row])
    for line, cut in zip(axes, cuts, strict=True):
        _panel(line[0], real, row, cut, levels)
        _panel(line[1], dreamed, index, cut, levels)
        planes.contours(line[1], real.labels[row, 0], cut, **_SOURCE_LINE)
        drawn = _distance(line[2], moved, inside, cut, top)
        planes.contours(line[2], dreamed.labels[index, 0], cut)
        line[0].set_ylabel(cut.plane.name)
        planes.letters(line[0], cut)
    for ax, name in zip(axes[0], ("source", "dream", "moved by"), strict=True):
        ax.set_title(name)
    figure.colorbar(drawn, ax=axes[:, 2], label="mm", fraction=0.06, aspect=30)
    if real.names:
        planes.legend(figure, real.names, _SOURCE_LEGEND)
    return figure


@styled
def label_volumes(inputs: ReportInputs) -> Figure | str:
    """Volume of every label in real labelled and in dreamed volumes."""
    if inputs.dreams is None or len(inputs.dreams) == 0:
        return _NONE
    real, dreamed = _both(inputs, inputs.dreams)
    if not real.names:
        return "There are no labels whose volumes could be compared."
    train = [i for i in inputs.cohort.indices("train") if bool((real.labels[i] > 0).any())]
    table = inputs.cohort.table
    groups = [
        (f"{inputs.kind}, training", real.labels[train], [table["class"][i] for i in train]),
        ("dreamed", dreamed.labels, [recipe.cls for recipe in inputs.dreams.recipes]),
    ]
    names = dict(list(real.names.items())[:6])
    figure = new_figure(min(9.6, 2.4 * len(names) + 1), 3.0)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    classes = sorted({str(c) for _, _, own in groups for c in own if isinstance(c, str)})
    for ax, (label, name) in zip(axes, names.items(), strict=True):
        for place, (_, labels, own) in enumerate(groups):
            _volume_strip(ax, place, volumes_ml(labels, label, real.spacing_mm), own, classes)
        ax.set_title(plain(name, 22))
        ax.set_xticks(range(len(groups)), [title.replace(", ", "\n") for title, _, _ in groups])
        ax.set_xlim(-0.5, len(groups) - 0.5)
        ax.set_ylim(bottom=0)
        horizontal_grid(ax)
    axes[0].set_ylabel("mL")
    if classes:
        handles = [
            axes[0].scatter([], [], c=c, marker=m, s=16, label=plain(cls))
            for cls, (c, m) in zip(classes, CLASS_MARKS, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def volumes_ml(labels: torch.Tensor, label: int, spacing_mm: Sequence[float]) -> np.ndarray:
    """Volume of a label in each of `(N, 1, D, H, W)`, in millilitres."""
    voxel = float(np.prod(spacing_mm)) / 1000
    return (labels == label).flatten(1).sum(1).numpy() * voxel


def _both(inputs: ReportInputs, dreams: Dreams) -> tuple[Outlined, Outlined]:
    return outlined_cohort(inputs), outlined(inputs, dreams.images, dreams.labels, dreams.masks)


def _by_source(dreams: Dreams, known: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the dreams of the sources that have most of them, classes mixed."""
    own: dict[str, list[int]] = {}
    classes: dict[str, str | None] = {}
    for index, recipe in enumerate(dreams.recipes):
        if recipe.source in known:
            own.setdefault(recipe.source, []).append(index)
            classes[recipe.source] = recipe.cls
    order = sorted(own, key=lambda source: -len(own[source]))
    picked: list[str] = []
    while order and len(picked) < _SOURCES:
        seen = [classes[source] for source in picked]
        rarest = min(order, key=lambda source: seen.count(classes[source]))
        order.remove(rarest)
        picked.append(rarest)
    return {source: own[source][:_DREAMS_EACH] for source in picked}


def _row_name(inputs: ReportInputs, source: str) -> str:
    cls = inputs.cohort.table["class"][inputs.cohort.index_of(source)]
    name = plain(source, 20)
    return f"{name}\n({plain(cls, 20)})" if isinstance(cls, str) else name


def _gallery_row(
    axes: np.ndarray,
    real: tuple[Outlined, int],
    dreamed: tuple[Outlined, list[int]],
    cut: planes.Cut,
) -> None:
    volumes, row = real
    dreams, own = dreamed
    levels = planes.window(volumes.images[row], volumes.masks[row])
    _panel(axes[0], volumes, row, cut, levels)
    planes.letters(axes[0], cut)
    for position, ax in enumerate(axes[1:]):
        if position >= len(own):
            planes.empty(ax, "")
            continue
        _panel(ax, dreams, own[position], cut, levels)
        planes.contours(ax, volumes.labels[row, 0], cut, **_SOURCE_LINE)


def _panel(
    ax: Axes, volumes: Outlined, row: int, cut: planes.Cut, levels: tuple[float, float]
) -> None:
    planes.show(ax, volumes.images[row, 0], cut, levels, volumes.masks[row, 0])
    planes.contours(ax, volumes.labels[row, 0], cut)


def _distance(
    ax: Axes, moved: torch.Tensor, inside: torch.Tensor, cut: planes.Cut, top: float
) -> AxesImage:
    shown = np.ma.masked_where(cut.view(inside) == 0, cut.view(moved))
    planes.empty(ax, "")
    ax.set_facecolor("black")
    height, width = shown.shape
    return ax.imshow(shown, cmap="viridis", vmin=0, vmax=top, aspect=cut.height * width / height)


def _volume_strip(
    ax: Axes, place: int, values: np.ndarray, own: Sequence[object], classes: list[str]
) -> None:
    if len(values) == 0:
        ax.text(place, 0, "none", ha="center", va="bottom", color=FAINT)
        return
    jitter = np.random.default_rng(place).uniform(-0.18, 0.18, len(values))
    marks = dict(zip(classes, CLASS_MARKS, strict=False))
    for cls in dict.fromkeys(own):
        colour, symbol = marks.get(str(cls), ("#0072b2", "o"))
        rows = [k for k, c in enumerate(own) if c == cls or (c is None and cls is None)]
        ax.scatter(
            place + jitter[rows], values[rows], s=16, c=colour, marker=symbol, alpha=0.75,
            linewidths=0,
        )  # fmt: skip
    low, middle, high = np.percentile(values, [5, 50, 95])
    ax.hlines(middle, place - 0.3, place + 0.3, color=INK, linewidth=2)
    ax.vlines(place + 0.3, low, high, color=INK, linewidth=1)
