"""Folds and extremes of a warp's Jacobian determinant.

The determinants are computed here a second time, apart from `dreamorph.spatial`, so that a mistake
there cannot hide itself: the eight one-sided determinants of each cell and the two of the inner
tetrahedra that complete the ten of Liu et al., IJCV 2024. Central differences miss folds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import torch

from dreamorph.spatial import SpatialTransform


@dataclass(frozen=True)
class Folding:
    """Folds and extremes of one map.

    Attributes:
        voxels: how many voxels touch a determinant that is not positive (non-finite counts).
        total: voxels of the grid.
        log_min, log_max: extremes of log det J over cells inside the mask; -inf where it folds.
    """

    voxels: int
    total: int
    log_min: float
    log_max: float


def determinants(points: torch.Tensor, spacing_mm: Sequence[float]) -> Iterator[torch.Tensor]:
    """One determinant after another, each `(*shape - 1)`, of the map `points` `(ndim, *shape)` mm.

    In 3D the eight corners of each cell, then its two inner tetrahedra; in 2D the four corners.
    """
    ndim = points.shape[0]
    volume = prod(spacing_mm)
    edges = [torch.diff(points, dim=1 + axis) for axis in range(ndim)]
    for corner in product((0, 1), repeat=ndim):
        yield _determinant([_touching(e, axis, corner) for axis, e in enumerate(edges)]) / volume
    if ndim == 3:
        # the other vertices in the order that keeps the identity's determinant at +2
        for base, others in (
            ((0, 0, 0), ((0, 1, 1), (1, 0, 1), (1, 1, 0))),
            ((1, 1, 1), ((1, 0, 0), (0, 0, 1), (0, 1, 0))),
        ):
            origin = _vertex(points, base)
            yield _determinant([_vertex(points, v) - origin for v in others]) / (2 * volume)


def measure_folding(
    points: torch.Tensor, spacing_mm: Sequence[float], mask: torch.Tensor | None = None
) -> Folding:
    """Folds and log-determinant extremes of one map.

    Args:
        points: where each voxel centre goes, `(ndim, *shape)` in mm.
        spacing_mm: voxel size.
        mask: bool `(*shape)`; the extremes are taken over cells wholly inside it, so that padding
            does not count. Folds count everywhere.
    """
    smallest = largest = None
    for values in determinants(points, spacing_mm):
        smallest = values if smallest is None else torch.minimum(smallest, values)
        largest = values if largest is None else torch.maximum(largest, values)
    assert smallest is not None  # a product over at least one axis is never empty
    assert largest is not None
    total = prod(points.shape[1:])
    inside = torch.ones_like(smallest, dtype=torch.bool) if mask is None else _cells(mask)
    if not inside.any():
        return Folding(_count(smallest), total, float("nan"), float("nan"))
    low, high = smallest[inside].min(), largest[inside].max()
    log_min = float(low.log()) if low > 0 else float("-inf")
    return Folding(_count(smallest), total, log_min, float(high.clamp_min(0).log()))


def measure_foldings(
    transforms: SpatialTransform, masks: torch.Tensor | None = None
) -> list[Folding]:
    """`measure_folding` of every map of a batch; masks `(B, 1, *shape)` of the output grid."""
    found = []
    for index in range(len(transforms)):
        points = transforms[index : index + 1].points()[0].cpu()
        mask = None if masks is None else masks[index, 0].cpu()
        found.append(measure_folding(points, transforms.spacing_mm, mask))
    return found


def _count(smallest: torch.Tensor) -> int:
    """Voxels at a corner of a cell that folds."""
    # 'not positive' rather than '<= 0', so that NaN counts as folded
    bad = ~(smallest > 0)
    if not bad.any():
        return 0
    folded = torch.zeros([n + 1 for n in bad.shape], dtype=torch.bool)
    for corner in product((0, 1), repeat=bad.dim()):
        folded[tuple(slice(c, c + n) for c, n in zip(corner, bad.shape, strict=True))] |= bad
    return int(folded.sum())


def _cells(mask: torch.Tensor) -> torch.Tensor:
    for axis in range(mask.dim()):
        n = mask.shape[axis]
        mask = mask.narrow(axis, 0, n - 1) & mask.narrow(axis, 1, n - 1)
    return mask


def _touching(edge: torch.Tensor, axis: int, corner: tuple[int, ...]) -> torch.Tensor:
    for other, side in enumerate(corner):
        if other != axis:
            edge = edge.narrow(1 + other, side, edge.shape[1 + other] - 1)
    return edge


def _vertex(points: torch.Tensor, vertex: tuple[int, ...]) -> torch.Tensor:
    for axis, side in enumerate(vertex):
        points = points.narrow(1 + axis, side, points.shape[1 + axis] - 1)
    return points


def _determinant(columns: list[torch.Tensor]) -> torch.Tensor:
    # written out: several times faster on strided views than a cross product
    if len(columns) == 2:
        a, b = columns
        return a[0] * b[1] - a[1] * b[0]
    a, b, c = columns
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
