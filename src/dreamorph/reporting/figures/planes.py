"""Slices the way a radiologist reads them.

Arrays are in RAS order: index 0 counts towards the patient's right, 1 towards anterior, 2 towards
superior. On the page the patient's right is at the viewer's left in axial and coronal slices, and
anterior is at the left in sagittal ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dreamorph.reporting.style import FAINT, label_line, plain
from dreamorph.spatial import extent

CONVENTION = (
    "Radiological convention: the patient's right is on the left of axial and coronal slices, "
    "anterior is on the left of sagittal ones; the letters stand for right, left, anterior, "
    "posterior, superior and inferior, as the file headers give them."
)
_OUTLINE = [patheffects.withStroke(linewidth=2, foreground="black")]


@dataclass(frozen=True)
class Plane:
    """A family of parallel slices; letters are left, right, top and bottom of the view."""

    name: str
    axis: int
    letters: str


SAGITTAL = Plane("sagittal", 0, "APSI")
CORONAL = Plane("coronal", 1, "RLSI")
AXIAL = Plane("axial", 2, "RLAP")
PLANES = (AXIAL, CORONAL, SAGITTAL)


def view(volume: torch.Tensor | np.ndarray, plane: Plane, index: int) -> np.ndarray:
    """Slice of a volume `(D, H, W)` as it is shown: first row on top, first column at the left."""
    return np.asarray(volume).take(index, axis=plane.axis).T[::-1, ::-1]


def aspect(spacing_mm: Sequence[float], plane: Plane) -> float:
    """Height over width of a voxel in the view."""
    column, row = (a for a in range(3) if a != plane.axis)
    return float(spacing_mm[row] / spacing_mm[column])


def view_heights(shape: Sequence[int], spacing_mm: Sequence[float]) -> list[float]:
    """Height over width of the views of all planes."""
    edges = extent(shape, spacing_mm)
    heights = []
    for plane in PLANES:
        column, row = (a for a in range(3) if a != plane.axis)
        heights.append(edges[row] / edges[column])
    return heights


def focus(labels: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[int, int, int]:
    """Slice of each axis that shows most of the labels `(D, H, W)`, or the middle of the mask."""
    shown = labels > 0
    if not bool(shown.any()) and mask is not None:
        shown = mask > 0
    if not bool(shown.any()):
        shown = torch.ones_like(labels, dtype=torch.bool)
        return tuple(n // 2 for n in shown.shape)  # type: ignore[return-value]
    counts = [shown.sum(dim=[a for a in range(3) if a != axis]) for axis in range(3)]
    middle = [round(float((c * torch.arange(len(c))).sum() / c.sum())) for c in counts]
    # where most is shown, but no further off the middle than needed
    best = [
        int((c.double() - 1e-3 * c.max() * (torch.arange(len(c)) - m).abs()).argmax())
        for c, m in zip(counts, middle, strict=True)
    ]
    return best[0], best[1], best[2]


def widest_plane(labels: torch.Tensor, mask: torch.Tensor | None = None) -> Plane:
    """The plane that shows most of the labels `(D, H, W)`."""
    at = focus(labels, mask)
    shown = labels > 0 if bool((labels > 0).any()) or mask is None else mask > 0
    areas = {p: int(shown.select(p.axis, at[p.axis]).sum()) for p in PLANES}
    return max(PLANES, key=lambda p: areas[p])


def reading_plane(labels: torch.Tensor, masks: torch.Tensor) -> Plane:
    """The plane that most of the volumes `(N, 1, D, H, W)` are best read in."""
    labelled = [k for k in range(len(labels)) if bool((labels[k] > 0).any())]
    chosen = (labelled or list(range(len(labels))))[:8]
    votes = [widest_plane(labels[k, 0], masks[k, 0]) for k in chosen]
    return max(PLANES, key=votes.count)


def window(image: torch.Tensor, mask: torch.Tensor) -> tuple[float, float]:
    """Black and white level: the 1st and 99.5th percentile inside the mask."""
    values = image[mask > 0].numpy() if bool((mask > 0).any()) else image.numpy()
    low, high = np.percentile(values, [1, 99.5])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def show(
    ax: Axes,
    image: torch.Tensor | np.ndarray,
    plane: Plane,
    index: int,
    spacing_mm: Sequence[float],
    levels: tuple[float, float] = (0.0, 1.0),
    mask: torch.Tensor | np.ndarray | None = None,
) -> None:
    """Draw one slice of `(D, H, W)` in grey; padding is black."""
    shown = view(image, plane, index).astype(float)
    if mask is not None:
        shown = np.where(view(mask, plane, index) > 0, shown, np.nan)
    grey = matplotlib.colormaps["gray"].with_extremes(bad="black")
    ax.imshow(
        np.ma.masked_invalid(shown),
        cmap=grey,
        vmin=levels[0],
        vmax=levels[1],
        aspect=aspect(spacing_mm, plane),
        interpolation="bilinear",
    )
    ax.set_facecolor("black")
    _bare(ax)


def letters(ax: Axes, plane: Plane, colour: str = "white") -> None:
    """Mark the four sides of a slice."""
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, (x, y), (horizontal, vertical) in zip(plane.letters, places, sides, strict=True):
        ax.text(
            x,
            y,
            letter,
            transform=ax.transAxes,
            ha=horizontal,
            va=vertical,
            color=colour,
            fontsize=8,
            fontweight="bold",
            path_effects=_OUTLINE,
        )


def contours(
    ax: Axes, labels: torch.Tensor | np.ndarray, plane: Plane, index: int, **line: Any
) -> None:
    """Outline the labels `(D, H, W)` of a slice; `line` overrides colours and line styles."""
    shown = view(labels, plane, index)
    for label in np.unique(shown):
        if label == 0:
            continue
        colour, style = label_line(int(label))
        inside = (shown == label).astype(float)
        if inside.all():
            continue
        ax.contour(
            inside,
            levels=[0.5],
            colors=[line.get("colour", colour)],
            linestyles=[line.get("style", style)],
            linewidths=line.get("width", 1.3),
        )


def legend(figure: Figure, names: dict[int, str], other: dict[str, dict[str, Any]]) -> None:
    """Explain the contours below the figure: labels by name, then `other` lines."""
    lines = []
    for label, name in names.items():
        colour, style = label_line(label)
        lines.append(Line2D([], [], color=colour, linestyle=style, label=plain(name, 24)))
    lines += [Line2D([], [], label=text, **line) for text, line in other.items()]
    if lines:
        figure.legend(
            handles=lines,
            loc="outside lower center",
            ncols=min(len(lines), 5),
            labelcolor="white",
            frameon=True,
            facecolor="#22272e",
            edgecolor="none",
            framealpha=1,
            fancybox=True,
        )


def empty(ax: Axes, text: str) -> None:
    """A panel with nothing to show but a word."""
    _bare(ax)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=FAINT)


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
