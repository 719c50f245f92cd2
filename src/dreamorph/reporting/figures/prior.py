"""What the prior learned, as images of the common anatomy moved along it."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dreamorph.reporting.figures import planes
from dreamorph.reporting.figures.population import Template, template
from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.style import CLASS_MARKS, horizontal_grid, new_figure, plain, styled
from dreamorph.reporting.wording import MINUS
from dreamorph.spatial import extent, flow, points_like

#: Modes that are shown, and where there are several classes, of each.
_MODES, _MODES_OF_CLASS = 3, 2
_DEVIATIONS = 2.0
_GRID_LINES = 14
_MEAN_LINE = {"colour": "white", "style": (0, (1, 1.2)), "width": 0.9}
_MEAN_LEGEND = {"outline of the mean": {"color": "white", "linestyle": ":"}}


@styled
def modes(inputs: ReportInputs, cls: str | None = None) -> Figure | str:
    """First modes of a class: the mean anatomy two standard deviations to either side."""
    common = template(inputs)
    if isinstance(common, str) or inputs.prior is None:
        return common if isinstance(common, str) else "No prior was learned."
    variances = inputs.prior.mode_variances(cls)
    count = min(_MODES if cls is None else _MODES_OF_CLASS, len(variances))
    if count == 0:
        return "All members look alike to the prior: it has no mode to show."
    middle = inputs.prior.mean(cls)
    mean = common.moved(middle)
    cut = _cut(mean)
    figure, axes = _sheet(cut, count, 4)
    for row in range(count):
        step = _DEVIATIONS * inputs.prior.mode(row, cls)
        volumes = [common.moved(middle - step), mean, common.moved(middle + step)]
        for ax, volume in zip(axes[row], volumes, strict=False):
            _draw(ax, volume, cut, None if volume is mean else mean)
        _draw(axes[row, 3], mean, cut, None, outlines=False)
        _warped_grid(axes[row, 3], mean, step, cut)
        axes[row, 0].set_ylabel(f"mode {row + 1}")
        planes.letters(axes[row, 0], cut)
    titles = (
        f"{MINUS}{_DEVIATIONS:g} SD",
        "mean",
        f"+{_DEVIATIONS:g} SD",
        f"grid at +{_DEVIATIONS:g} SD",
    )
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    planes.legend(figure, mean.names, _MEAN_LEGEND)
    return figure


@styled
def draws(inputs: ReportInputs, count: int = 5) -> Figure | str:
    """The mean anatomy of each class and random subjects drawn around it."""
    common = template(inputs)
    if isinstance(common, str) or inputs.prior is None:
        return common if isinstance(common, str) else "No prior was learned."
    classes = inputs.prior.class_names[:4]
    cut = _cut(common)
    figure, axes = _sheet(cut, len(classes), count + 1)
    for row, cls in enumerate(classes):
        mean = common.moved(inputs.prior.mean(cls))
        _draw(axes[row, 0], mean, cut, None)
        for column in range(count):
            field = inputs.prior.draw(column, cls).field
            _draw(axes[row, column + 1], common.moved(field), cut, mean)
        planes.letters(axes[row, 0], cut)
        if cls is not None:
            axes[row, 0].set_ylabel(plain(cls, 18))
    for column, ax in enumerate(axes[0]):
        ax.set_title(f"drawn {column}" if column else "mean")
    planes.legend(figure, common.names, _MEAN_LEGEND)
    return figure


@styled
def spectrum(inputs: ReportInputs) -> Figure | str:
    """How the variance is shared among the modes of each class."""
    if inputs.prior is None:
        return "No prior was learned."
    figure = new_figure(4.6, 2.7)
    ax = figure.subplots()
    for index, cls in enumerate(inputs.prior.class_names):
        gaussian = inputs.prior.gaussians[cls]
        variances = inputs.prior.mode_variances(cls)
        share = (1 - gaussian.shrinkage) * variances / variances.sum()
        colour, symbol = CLASS_MARKS[index % len(CLASS_MARKS)]
        name = "all members" if cls is None else plain(cls)
        ax.plot(
            np.arange(len(share)) + 1, 100 * share.cumsum(0).numpy(),
            color=colour, marker=symbol, markersize=3.5, linewidth=1.2, label=name,
        )  # fmt: skip
    ax.set_xlabel("modes, strongest first")
    ax.set_ylabel("% of modelled variance")
    ax.set_ylim(0, 100)
    ax.axhspan(100 * (1 - gaussian.shrinkage), 100, color="#e9ecef", zorder=0)
    ax.text(1, 98, "smooth residual", va="top", fontsize=8.5)
    horizontal_grid(ax)
    if len(inputs.prior.class_names) > 1:
        ax.legend(loc="best")
    return figure


def _cut(volume: Template) -> planes.Cut:
    labels, mask = volume.labels[0, 0], volume.mask[0, 0]
    return planes.cut(
        volume.plane, planes.focus(labels, mask), volume.spacing_mm, planes.bounds(mask)
    )


def _sheet(cut: planes.Cut, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = new_figure(9.6, rows * 9.6 / columns * cut.height + 0.65)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw(
    ax: Axes, volume: Template, cut: planes.Cut, mean: Template | None, outlines: bool = True
) -> None:
    levels = planes.window(volume.image, volume.mask)
    planes.show(ax, volume.image[0, 0], cut, levels, volume.mask[0, 0])
    if outlines:
        planes.contours(ax, volume.labels[0, 0], cut)
    if mean is not None:
        planes.contours(ax, mean.labels[0, 0], cut, **_MEAN_LINE)


def _warped_grid(ax: Axes, volume: Template, velocity: torch.Tensor, cut: planes.Cut) -> None:
    """Where the lines of a regular grid in the slice go, seen in that slice."""
    shape, spacing = volume.image.shape[2:], volume.spacing_mm
    points = flow(velocity[None], points_like(shape, spacing), extent(shape, spacing))
    moved = points[0].select(cut.plane.axis + 1, cut.index)
    # grid millimetres to the flipped pixels of the view
    column, row = (
        (cut.box[a][1] - (shape[a] - 1) / 2 - moved[a] / spacing[a]).numpy() for a in cut.axes
    )
    step_mm = cut.size_mm[0] / _GRID_LINES
    steps = [max(1, round(step_mm / spacing[a])) for a in cut.axes]
    style: dict[str, Any] = {"color": "#7fdbff", "linewidth": 0.7, "scalex": False, "scaley": False}
    ax.plot(column[:: steps[0]].T, row[:: steps[0]].T, **style)
    ax.plot(column[:, :: steps[1]], row[:, :: steps[1]], **style)
