"""Jacobian determinants by one-sided differences at every corner of every cell.

Central differences miss folds: a checkerboard displacement has a central-difference determinant of
one everywhere. A map is free of folds on its grid when the determinants at all corners are positive
(digital diffeomorphism; Liu et al., IJCV 2024).
"""

from collections.abc import Sequence
from itertools import product

import torch

from dreamorph.spatial.on_gpu import fused


def corner_determinants(points: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Determinants at the corners of each cell between neighbouring voxels.

    Args:
        points: where each voxel centre goes, `(B, ndim, *shape)` in mm.
        spacing_mm: voxel size of that grid.

    Returns:
        `(B, 2**ndim, *(shape - 1))`: corner c of a cell uses the cell's own edges at that corner.
    """
    ndim = points.shape[1]
    edges = [torch.diff(points, dim=2 + a) / spacing_mm[a] for a in range(ndim)]
    determinants = []
    for corner in product((0, 1), repeat=ndim):
        columns = [_at_corner(edge, axis, corner) for axis, edge in enumerate(edges)]
        determinants.append(_determinant(columns))
    return torch.stack(determinants, dim=1)


def folded_voxels(points: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Voxels where any one-sided determinant is not positive, or not a number: `(B, *shape)`."""
    if fused(points):
        from dreamorph.spatial.fused import folded

        return folded(points, spacing_mm)
    return voxels_at_corners(~(corner_determinants(points, spacing_mm) > 0))


def voxels_at_corners(bad: torch.Tensor) -> torch.Tensor:
    """Voxels that are a bad corner of any cell.

    From bool `(B, 2**ndim, *(shape - 1))`, in the order of `corner_determinants`, to `(B, *shape)`.
    """
    ndim = bad.dim() - 2
    shape = [n + 1 for n in bad.shape[2:]]
    folded = torch.zeros((bad.shape[0], *shape), dtype=torch.bool, device=bad.device)
    for index, corner in enumerate(product((0, 1), repeat=ndim)):
        window = tuple(slice(c, c + n) for c, n in zip(corner, bad.shape[2:], strict=True))
        folded[(slice(None), *window)] |= bad[:, index]
    return folded


def _at_corner(edge: torch.Tensor, axis: int, corner: tuple[int, ...]) -> torch.Tensor:
    """The edges along `axis` that touch the given corner of each cell."""
    for other, side in enumerate(corner):
        if other != axis:
            edge = edge.narrow(2 + other, side, edge.shape[2 + other] - 1)
    return edge


def _determinant(columns: list[torch.Tensor]) -> torch.Tensor:
    if len(columns) == 2:
        a, b = columns
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    (a, d, g), (b, e, h), (c, f, i) = (column.unbind(dim=1) for column in columns)
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
