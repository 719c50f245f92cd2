"""Slices the way a radiologist reads them.

Arrays are in RAS order: index 0 counts towards the patient's right, 1 towards anterior, 2 towards
superior. On the page the patient's right is at the viewer's left in axial and coronal slices, and
anterior is at the left in sagittal ones.
"""

import math
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

CONVENTION = (
    "Radiological convention: the patient's right is on the left of axial and coronal slices, "
    "anterior is on the left of sagittal ones; the letters stand for right, left, anterior, "
    "posterior, superior and inferior, as the file headers give them."
)
#: Room that an entry of a legend takes: its mark with the gaps around it, and a letter.
_MARK_INCHES, _LETTER_INCHES = 0.6, 0.06
#: Rows of a legend that every figure has room for, and what one more takes.
_LEGEND_ROWS, _LINE_INCHES = 2, 0.2
_SCALES_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_OUTLINE = [patheffects.withStroke(linewidth=2, foreground="black")]


#: First and last voxel shown along each axis.
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


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


@dataclass(frozen=True)
class Cut:
    """How a slice is looked at.

    Attributes:
        plane: family of the slice.
        index: which slice.
        spacing_mm: voxel size of the volume.
        box: first and last voxel of each axis that are shown.
    """

    plane: Plane
    index: int
    spacing_mm: tuple[float, ...]
    box: Box

    @property
    def axes(self) -> tuple[int, int]:
        """Array axes along the columns and along the rows of the view."""
        column, row = (a for a in range(3) if a != self.plane.axis)
        return column, row

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of what is shown."""
        width, height = (
            (self.box[a][1] - self.box[a][0] + 1) * self.spacing_mm[a] for a in self.axes
        )
        return width, height

    @property
    def height(self) -> float:
        """Height over width of what is shown."""
        return self.size_mm[1] / self.size_mm[0]

    def view(self, volume: torch.Tensor | np.ndarray) -> np.ndarray:
        """Slice of `(D, H, W)` as it is shown: first row on top, first column at the left."""
        cut = np.asarray(volume).take(self.index, axis=self.plane.axis)
        columns, rows = (slice(self.box[a][0], self.box[a][1] + 1) for a in self.axes)
        return cut[columns, rows].T[::-1, ::-1]


def cut(plane: Plane, at: Sequence[int], spacing_mm: Sequence[float], box: Box) -> Cut:
    """The slice of a plane through the voxel `at`."""
    return Cut(plane, at[plane.axis], tuple(spacing_mm), box)


def cuts(at: Sequence[int], spacing_mm: Sequence[float], box: Box) -> list[Cut]:
    """The three slices through the voxel `at`."""
    return [cut(plane, at, spacing_mm, box) for plane in PLANES]


def bounds(masks: torch.Tensor) -> Box:
    """The box that holds the content of all masks `(..., D, H, W)`, and a voxel around it."""
    shape = masks.shape[-3:]
    content = masks.reshape(-1, *shape).any(0)
    box = []
    for axis, size in enumerate(shape):
        line = content.sum(dim=[a for a in range(3) if a != axis]).nonzero().flatten()
        low, high = (int(line[0]), int(line[-1])) if len(line) else (0, size - 1)
        box.append((max(0, low - 1), min(size - 1, high + 1)))
    return box[0], box[1], box[2]


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
    cut: Cut,
    levels: tuple[float, float] = (0.0, 1.0),
    mask: torch.Tensor | np.ndarray | None = None,
) -> None:
    """Draw one slice of `(D, H, W)` in grey; padding is black."""
    shown = cut.view(image).astype(float)
    if mask is not None:
        shown = np.where(cut.view(mask) > 0, shown, np.nan)
    grey = matplotlib.colormaps["gray"].with_extremes(bad="black")
    height, width = shown.shape
    ax.imshow(
        np.ma.masked_invalid(shown),
        cmap=grey,
        vmin=levels[0],
        vmax=levels[1],
        aspect=cut.height * width / height,
        interpolation="bilinear",
    )
    ax.set_facecolor("black")
    _bare(ax)


def letters(ax: Axes, cut: Cut) -> None:
    """Mark the four sides of a slice and give it a scale."""
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
    sides = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    style: dict[str, Any] = {"color": "white", "fontsize": 8, "path_effects": _OUTLINE}
    for letter, (x, y), (h, v) in zip(cut.plane.letters, places, sides, strict=True):
        ax.text(x, y, letter, transform=ax.transAxes, ha=h, va=v, fontweight="bold", **style)
    width = cut.size_mm[0]
    length = max((mm for mm in _SCALES_MM if mm <= 0.4 * width), default=_SCALES_MM[0])
    ax.plot(
        [0.03, 0.03 + length / width], [0.03, 0.03], transform=ax.transAxes, color="white",
        linewidth=1.5, path_effects=_OUTLINE, scalex=False, scaley=False,
    )  # fmt: skip
    style["fontsize"] = 6.5
    ax.text(0.03, 0.045, f"{length} mm", transform=ax.transAxes, ha="left", va="bottom", **style)


def contours(ax: Axes, labels: torch.Tensor | np.ndarray, cut: Cut, **line: Any) -> None:
    """Outline the labels `(D, H, W)` of a slice; `line` overrides colours and line styles."""
    shown = cut.view(labels)
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
        longest = max(len(str(line.get_label())) for line in lines)
        fitting = int(figure.get_figwidth() / (_MARK_INCHES + longest * _LETTER_INCHES))
        columns = max(1, min(len(lines), fitting, 5))
        rows = math.ceil(len(lines) / columns)
        if rows > _LEGEND_ROWS:  # many labels must not take the room of the panels
            more = (rows - _LEGEND_ROWS) * _LINE_INCHES
            figure.set_figheight(figure.get_figheight() + more)
        figure.legend(
            handles=lines,
            loc="outside lower center",
            ncols=columns,
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
