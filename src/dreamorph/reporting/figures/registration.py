"""Registration before and after: a pair in slices, and all pairs in numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dreamorph.reporting.figures import planes
from dreamorph.reporting.inputs import Outlined, ReportInputs, outlined, outlined_cohort
from dreamorph.reporting.style import FAINT, INK, horizontal_grid, new_figure, plain, styled
from dreamorph.spatial import SpatialTransform

_FIXED_LINE = {"colour": "white", "style": (0, (1, 1.2)), "width": 0.9}
_TILES = 8
_KINDS = (("labelled", "#d55e00", "o"), ("unlabelled", "#0072b2", "^"))
#: The axis of the inverse errors reaches at least this far, so that noise looks like noise.
_LEAST_RANGE_MM = 0.01


@styled
def pair(inputs: ReportInputs, index: int = 0) -> Figure | str:
    """One registered pair: rows are planes, columns are the steps from moving to fixed."""
    if index >= len(inputs.pair_examples):
        return "No registered pair was handed to the report as an example."
    fixed, moving, transform = inputs.pair_examples[index]
    volumes = _volumes(inputs)
    steps = _steps(_own_grid(inputs, index), volumes, moving, transform[[0]])
    still = Outlined(
        volumes.images[fixed], volumes.labels[fixed], volumes.masks[fixed],
        volumes.names, volumes.spacing_mm,
    )  # fmt: skip
    box = planes.bounds(torch.cat([still.masks, *(step.masks for step in steps.values())]))
    cuts = planes.cuts(planes.focus(still.labels[0], still.masks[0]), still.spacing_mm, box)
    columns = len(steps) + 2
    heights = [cut.height for cut in cuts]
    figure = new_figure(1.9 * columns, sum(heights) * 1.75 + 0.6)
    axes = figure.subplots(3, columns, gridspec_kw={"height_ratios": heights}, squeeze=False)
    for row, cut in zip(axes, cuts, strict=True):
        _pair_row(row, cut, still, steps)
    titles = ["fixed", *steps, "fixed / warped tiles"]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    if volumes.names:
        dotted = {"fixed outline": {"color": "white", "linestyle": ":"}}
        planes.legend(figure, volumes.names, dotted)
    return figure


def pair_names(inputs: ReportInputs, index: int) -> tuple[str, str]:
    """Cases of an example: fixed, moving."""
    fixed, moving, _ = inputs.pair_examples[index]
    names = inputs.cohort.cases
    if inputs.common is not None and inputs.prior is not None:
        names = inputs.prior.members
    return names[fixed], names[moving]


@styled
def quality(inputs: ReportInputs) -> Figure | str:
    """Similarity, Dice, inverse error and volume change of all pairs."""
    if inputs.pairs.empty:
        return "No pair was registered."
    panels = [
        (stages, title)
        for stages, title in (
            (_stages(inputs.pairs, "similarity"), "Local correlation of the images"),
            (_stages(inputs.pairs, "dice"), "Mean Dice of the labels"),
        )
        if stages
    ]
    figure = new_figure(9.6, 3.3)
    axes = figure.subplots(1, len(panels) + 2, squeeze=False)[0]
    for ax, (stages, title) in zip(axes, panels, strict=False):
        _strips(ax, inputs.pairs, stages)
        ax.set_title(title)
    _single(axes[-2], inputs.pairs, ["inverse_error_mm"], ["there and\nback"])
    axes[-2].set_title("Inverse error (mm)")
    axes[-2].set_ylim(0, max(_LEAST_RANGE_MM, axes[-2].get_ylim()[1]))
    extremes = ["log_jacobian_min", "log_jacobian_max"]
    _single(axes[-1], inputs.pairs, extremes, ["largest\nshrinkage", "largest\ngrowth"])
    axes[-1].set_title("Log volume change")
    axes[-1].axhline(0, color=FAINT, linewidth=0.8)
    handles = [
        axes[0].scatter([], [], c=colour, marker=symbol, s=14, label=f"{kind} pair")
        for kind, colour, symbol in _KINDS
        if (inputs.pairs["kind"] == kind).any()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _volumes(inputs: ReportInputs) -> Outlined:
    group = inputs.common
    if group is None:
        return outlined_cohort(inputs)
    return outlined(inputs, group.images, group.labels, group.masks)


def _own_grid(inputs: ReportInputs, index: int) -> Outlined | None:
    """The moving volume before it was brought into the common space, where it was."""
    _, moving = pair_names(inputs, index)
    if inputs.common is None or moving not in inputs.cohort.cases:
        return None
    return _single_volume(outlined_cohort(inputs), inputs.cohort.index_of(moving))


def _single_volume(volumes: Outlined, row: int) -> Outlined:
    return replace(
        volumes,
        images=volumes.images[[row]],
        labels=volumes.labels[[row]],
        masks=volumes.masks[[row]],
    )


def _steps(
    own: Outlined | None, volumes: Outlined, moving: int, transform: SpatialTransform
) -> dict[str, Outlined]:
    """The moving volume as it was, after the affine map if there is one, and after the warp.

    `own` is the volume before an affine map that `volumes` have behind them already.
    """
    alone = _single_volume(volumes, moving)
    steps = {"moving, before": alone}
    if own is not None:
        steps = {"moving, before": own, "after affine": alone}
    eye = torch.eye(transform.post.shape[-1], dtype=torch.float64)
    moves = not torch.equal(transform.post[0], eye) or not torch.equal(transform.pre[0], eye)
    if moves or transform.velocity is None:
        steps["after affine"] = _warped(alone, replace(transform, velocity=None))
    if transform.velocity is not None:
        steps["after warp"] = _warped(alone, transform)
    return {
        name: replace(v, images=v.images[0], labels=v.labels[0], masks=v.masks[0])
        for name, v in steps.items()
    }


def _warped(volume: Outlined, transform: SpatialTransform) -> Outlined:
    n_labels = max(1, int(volume.labels.max()))
    images, labels = transform.warp_with_labels(volume.images, volume.labels, n_labels)
    masks = transform.warp(volume.masks.float(), padding="zeros") > 0.5
    return replace(volume, images=images, labels=labels * masks, masks=masks)


def _pair_row(
    axes: np.ndarray, cut: planes.Cut, fixed: Outlined, steps: dict[str, Outlined]
) -> None:
    for ax, volume in zip(axes, [fixed, *steps.values()], strict=False):
        levels = planes.window(volume.images, volume.masks)
        planes.show(ax, volume.images[0], cut, levels, volume.masks[0])
        planes.contours(ax, volume.labels[0], cut)
        if volume is not fixed:
            planes.contours(ax, fixed.labels[0], cut, **_FIXED_LINE)
    planes.letters(axes[0], cut)
    axes[0].set_ylabel(cut.plane.name)
    final = list(steps.values())[-1]
    tiles = _tiles(_unit(fixed), _unit(final))
    planes.show(axes[-1], tiles, cut, mask=(fixed.masks | final.masks)[0])


def _unit(volume: Outlined) -> torch.Tensor:
    low, high = planes.window(volume.images, volume.masks)
    return ((volume.images[0] - low) / (high - low)).clamp(0, 1) * volume.masks[0]


def _tiles(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cubes of two volumes `(D, H, W)` in turn, so that edges must meet at their borders."""
    edge = max(2, max(first.shape) // _TILES)
    index = torch.meshgrid(*[torch.arange(n) // edge for n in first.shape], indexing="ij")
    odd = sum(index) % 2 == 1
    return torch.where(torch.as_tensor(odd), second, first)


def _stages(pairs: pd.DataFrame, name: str) -> dict[str, str]:
    """Column of each stage that is known."""
    titles = {"before": "before", "affine": "affine", "after": "warp"}
    columns = {f"{name}_{stage}": title for stage, title in titles.items()}
    return {c: t for c, t in columns.items() if c in pairs and pairs[c].notna().any()}


def _strips(ax: Axes, pairs: pd.DataFrame, stages: dict[str, str]) -> None:
    values = pairs[list(stages)].to_numpy(dtype=float)
    places = np.arange(len(stages))
    ax.plot(places, values.T, color="#b8c0c8", linewidth=0.4, zorder=1)
    _single(ax, pairs, list(stages), list(stages.values()))


def _single(ax: Axes, pairs: pd.DataFrame, columns: list[str], names: list[str]) -> None:
    jitter = np.random.default_rng(0).uniform(-0.13, 0.13, len(pairs))
    for place, column in enumerate(columns):
        if column not in pairs:
            continue
        values = pairs[column].to_numpy(dtype=float)
        for kind, colour, symbol in _KINDS:
            own = (pairs["kind"] == kind).to_numpy()
            ax.scatter(
                place + jitter[own], values[own], s=9, c=colour, marker=symbol,
                alpha=0.65, linewidths=0, zorder=2,
            )  # fmt: skip
        if np.isfinite(values).any():
            middle = float(np.nanmedian(values))
            ax.hlines(middle, place - 0.3, place + 0.3, color=INK, linewidth=2, zorder=3)
    ax.set_xticks(range(len(names)), [plain(n) if "\n" not in n else n for n in names])
    ax.set_xlim(-0.5, len(names) - 0.5)
    horizontal_grid(ax)
