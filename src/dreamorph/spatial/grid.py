"""Points of a grid in millimetres, and volumes read there."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
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


def covered(points: torch.Tensor, shape: Sequence[int], extent_mm: Sequence[float]) -> torch.Tensor:
    """How much of what is interpolated at points lies within a grid, `(B, 1, *out)` from 0 to 1.

    What `sample` beyond a border takes from it, times this, is what it takes where zeros lie
    beyond.

    Args:
        points: `(B, ndim, *out)` in grid millimetres.
        shape, extent_mm: of the grid.
    """
    share = torch.ones_like(points[:, :1])
    for axis, (n, edge) in enumerate(zip(shape, extent_mm, strict=True)):
        beyond = points[:, axis : axis + 1].abs() * (n / edge) - 0.5 * (n - 1)
        share *= beyond.clamp_(0, 1).neg_().add_(1)
    return share


def affine_maps(
    affine: torch.Tensor,
    extent_mm: Sequence[float],
    dtype: torch.dtype = torch.float32,
    to_mm: bool = False,
) -> torch.Tensor:
    """Maps `(B, n, n)` in mm as those `(B, ndim, n)` in units and order of `grid_sample`.

    With `to_mm` only points are in these units, and where they are mapped to is in mm.
    """
    ndim = affine.shape[-1] - 1
    scale = per_mm(tuple(extent_mm), affine.device, affine.dtype)
    rows = affine[:, :ndim] if to_mm else affine[:, :ndim] * scale[:, None]
    linear = (rows[:, :, :ndim] / scale).flip(1, 2)
    return torch.cat([linear, rows[:, :, ndim:].flip(1)], dim=2).to(dtype)


def corner_and_shape(box: Sequence[slice], shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """First voxel and shape of slices of a grid."""
    edges = [edge.indices(n) for edge, n in zip(box, shape, strict=True)]
    return [first for first, *_ in edges], [end - first for first, end, _ in edges]


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
        self.extent_mm = tuple(extent_mm)
        self.units = per_mm(self.extent_mm, affine.device, affine.dtype).diag().flip(0).to(dtype)
        self.maps = affine_maps(affine, self.extent_mm, dtype)
        self.linear, self.shift = self.maps.split([ndim, 1], dim=2)

    @cached_property
    def start(self) -> torch.Tensor:
        """Where the voxels of the box are read that are not displaced, `(B, ndim, *box)`."""
        spacing = [2 / n for n in self.shape]
        points = points_like(self.shape, spacing, self.shift.device, self.shift.dtype)
        points = points[(slice(None), slice(None), *self.box)].flip(1)
        start = torch.baddbmm(self.shift, *_alike(self.linear, points.flatten(2)))
        return start.reshape(len(start), *points.shape[1:])

    @property
    def per_mm(self) -> tuple[float, ...]:
        """Units of `grid_sample` in a mm, the last axis first."""
        return tuple(2 / edge for edge in reversed(self.extent_mm))

    @property
    def corner_and_shape(self) -> tuple[list[int], list[int]]:
        """First voxel and shape of the box."""
        return corner_and_shape(self.box, self.shape)

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
