"""Points of a grid in millimetres, and volumes read there."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch.nn import functional

from dreamorph.spatial.interpolation import interpolate
from dreamorph.spatial.smoothing import apply_along

Padding = Literal["border", "zeros"]


def extent(shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[float, ...]:
    """Edge length of the grid along each axis in mm, voxel edges included."""
    return tuple(n * s for n, s in zip(shape, spacing_mm, strict=True))


def coarse_shape(shape: Sequence[int], factor: int) -> tuple[int, ...]:
    """Shape of a grid of the same extent with about `factor` times coarser voxels (at least 4)."""
    return tuple(max(min(n, 4), round(n / factor)) for n in shape)


def points_like(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Coordinates of all voxel centres, `(1, ndim, *shape)`, in grid millimetres."""
    axes = [
        (torch.arange(n, device=device, dtype=dtype) - (n - 1) / 2) * s
        for n, s in zip(shape, spacing_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0)


def sample(
    volume: torch.Tensor,
    points: torch.Tensor,
    extent_mm: Sequence[float],
    padding: Padding = "border",
    affine: torch.Tensor | None = None,
) -> torch.Tensor:
    """Interpolate a volume linearly at points.

    Args:
        volume: `(B, C, *shape)`, covering `extent_mm` around the origin.
        points: `(B, ndim, *out)` in grid millimetres; a batch of one serves every volume.
        extent_mm: edge lengths of the volume's grid.
        padding: `border` repeats the outermost voxel beyond the grid, `zeros` fades to zero.
        affine: `(B or 1, n, n)`, applied to the points first; costs next to nothing here.

    Returns:
        `(B, C, *out)` in the type of the volume; float32 for one of integers.
    """
    scale = per_mm(tuple(extent_mm), points.device, points.dtype)
    if affine is None:
        normalised = points.flip(1) * scale.flip(0).reshape(1, -1, *[1] * (points.dim() - 2))
    else:
        rows = affine.to(points)[:, : len(scale)] * scale[:, None]
        flat = torch.baddbmm(
            rows.flip(1)[:, :, -1:], *_alike(rows.flip(1)[:, :, :-1], points.flatten(2))
        )
        normalised = flat.reshape(flat.shape[0], *points.shape[1:])
    # coordinates in half precision would be off by whole voxels
    exact = torch.promote_types(volume.dtype, torch.float32)
    sampled = interpolate(volume.to(exact), normalised.to(exact), padding)
    return sampled.to(volume.dtype) if volume.is_floating_point() else sampled


class DisplacedGrid:
    """Where volumes are read under `A(x + u(x))`, for the voxel centres x of a box of a grid.

    What does not change with u is computed once. Displacements are in the units of `grid_sample`
    and in its order of components, the last axis first; `convert` brings fields in mm to these.
    """

    def __init__(
        self,
        shape: Sequence[int],
        extent_mm: Sequence[float],
        affine: torch.Tensor,
        box: tuple[slice, ...],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`affine` is `(B, n, n)`; `box` are slices of `(B, ndim, *shape)`."""
        self.shape, self.box, ndim = tuple(shape), box[2:], len(shape)
        points = points_like(shape, [2 / n for n in shape], affine.device, dtype)[box]
        scale = per_mm(tuple(extent_mm), affine.device, affine.dtype)
        self.units = scale.diag().flip(0).to(dtype)
        rows = affine[:, :ndim] * scale[:, None]
        self.linear = (rows[:, :, :ndim] / scale).flip(1, 2).to(dtype)
        shift = rows[:, :, ndim:].flip(1).to(dtype)
        start = torch.baddbmm(shift, *_alike(self.linear, points.flip(1).flatten(2)))
        self.start = start.reshape(len(affine), *points.shape[1:])

    def convert(self, field: torch.Tensor, times: float) -> torch.Tensor:
        """A field `(B, ndim, *coarse)` in mm, times a number, in the units of displacements."""
        return (times * self.units @ field.flatten(2)).reshape(field.shape)

    def sample(self, volume: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
        """A volume `(B, C, *shape)` within the box, `(B, C, *box)`.

        `displacement` is `(B, ndim, *coarse)`, on a grid of the same extent.
        """
        moved = (self.linear @ displacement.flatten(2)).reshape(displacement.shape)
        for axis, (size, edge) in enumerate(zip(self.shape, self.box, strict=True)):
            coarse = moved.shape[2 + axis]
            if coarse != size or self.start.shape[2 + axis] != size:
                between = _linear_matrix(coarse, size, moved.device, moved.dtype)[edge]
                moved = apply_along(moved, between, axis)
        return interpolate(volume, self.start + moved)


@lru_cache(maxsize=256)
def _linear_matrix(
    coarse: int, fine: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """What `resample` makes of a line of `coarse` voxels, no more than `fine`, `(fine, coarse)`.

    Products with it take a fifth of the time of `interpolate` and its gradient on a CPU.
    """
    with torch.inference_mode(mode=False):
        lines = torch.eye(coarse, device=device, dtype=dtype)[None]
        found = functional.interpolate(lines, size=fine, mode="linear", align_corners=False)
        return found[0].T.contiguous()


@lru_cache(maxsize=256)
def per_mm(extent_mm: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Units of `grid_sample`, in which a grid's edge is 2 long, per mm along each axis, `(ndim,)`.

    Kept on the device: a copy from the CPU would make every call wait for the GPU.
    """
    with torch.inference_mode(mode=False):
        return torch.tensor([2.0 / edge for edge in extent_mm], device=device, dtype=dtype)


def _alike(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with the larger of their batch sizes, of which one may be one."""
    batch = max(a.shape[0], b.shape[0])
    return a.expand(batch, -1, -1), b.expand(batch, -1, -1)


def resample(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Bring `(B, C, *)` to another resolution of the same extent, linearly.

    Going coarser averages over the area of the coarse voxels first, so nothing aliases.
    """
    if tuple(volume.shape[2:]) == tuple(shape):
        return volume
    mode = "bilinear" if volume.dim() == 4 else "trilinear"
    if any(n < m for n, m in zip(shape, volume.shape[2:], strict=True)):
        smaller = [min(n, m) for n, m in zip(shape, volume.shape[2:], strict=True)]
        volume = functional.interpolate(volume, size=smaller, mode="area")
    if tuple(volume.shape[2:]) == tuple(shape):
        return volume
    return functional.interpolate(volume, size=list(shape), mode=mode, align_corners=False)
