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
from dreamorph.spatial import extent

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
    edges = extent(inputs.cohort.shape, real.spacing_mm)
    column_axis, row_axis = (a for a in range(3) if a != plane.axis)
    width = min(2.6, 9.6 / columns)
    height = width * edges[row_axis] / edges[column_axis]
    figure = new_figure(width * columns, len(chosen) * height + 0.75)
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for row, (source, own) in enumerate(chosen.items()):
        _gallery_row(axes[row], real, dreamed, inputs.cohort.index_of(source), own, plane)
        axes[row, 0].set_ylabel(_row_name(inputs, source))
    axes[0, 0].set_title("real")
    for ax in axes[0, 1:]:
        ax.set_title("dream")
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
    heights = planes.view_heights(inputs.cohort.shape, real.spacing_mm)
    figure = new_figure(8.6, 2.5 * sum(heights) + 0.7)
    axes = figure.subplots(3, 3, squeeze=False, gridspec_kw={"height_ratios": heights})
    levels = planes.window(real.images[row], real.masks[row])
    for own_axes, plane in zip(axes, planes.PLANES, strict=True):
        place = at[plane.axis]
        _panel(own_axes[0], real, row, plane, place, levels)
        _panel(own_axes[1], dreamed, index, plane, place, levels)
        planes.contours(own_axes[1], real.labels[row, 0], plane, place, **_SOURCE_LINE)
        drawn = _distance(own_axes[2], moved, inside, plane, place, real.spacing_mm, top)
        planes.contours(own_axes[2], dreamed.labels[index, 0], plane, place)
        own_axes[0].set_ylabel(plane.name)
        planes.letters(own_axes[0], plane)
    for ax, name in zip(axes[0], ("real", "dream", "moved by"), strict=True):
        ax.set_title(name)
    figure.colorbar(drawn, ax=axes[:, 2], label="mm", fraction=0.06, aspect=30)
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
        ("real, training", real.labels[train], [table["class"][i] for i in train]),
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
    real: Outlined,
    dreamed: Outlined,
    row: int,
    own: list[int],
    plane: planes.Plane,
) -> None:
    at = planes.focus(real.labels[row, 0], real.masks[row, 0])[plane.axis]
    levels = planes.window(real.images[row], real.masks[row])
    _panel(axes[0], real, row, plane, at, levels)
    planes.letters(axes[0], plane)
    for position, ax in enumerate(axes[1:]):
        if position >= len(own):
            planes.empty(ax, "")
            continue
        _panel(ax, dreamed, own[position], plane, at, levels)
        planes.contours(ax, real.labels[row, 0], plane, at, **_SOURCE_LINE)


def _panel(
    ax: Axes,
    volumes: Outlined,
    row: int,
    plane: planes.Plane,
    at: int,
    levels: tuple[float, float],
) -> None:
    planes.show(
        ax, volumes.images[row, 0], plane, at, volumes.spacing_mm, levels, volumes.masks[row, 0]
    )
    planes.contours(ax, volumes.labels[row, 0], plane, at)


def _distance(
    ax: Axes,
    moved: torch.Tensor,
    inside: torch.Tensor,
    plane: planes.Plane,
    at: int,
    spacing_mm: Sequence[float],
    top: float,
) -> AxesImage:
    shown = np.ma.masked_where(planes.view(inside, plane, at) == 0, planes.view(moved, plane, at))
    planes.empty(ax, "")
    ax.set_facecolor("black")
    return ax.imshow(
        shown, cmap="viridis", vmin=0, vmax=top, aspect=planes.aspect(spacing_mm, plane)
    )


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
