"""Volumes of a batch of pairs at one resolution."""

import math
from dataclasses import dataclass

import torch

from dreamorph.spatial.grid import coarse_shape, resample
from dreamorph.spatial.smoothing import gaussian_smooth


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs on one grid.

    Attributes:
        fixed, moving: `(B, 1, *shape)` float32, filled beyond their masks.
        fixed_mask, moving_mask: `(B, 1, *shape)` float32, one where a volume has content.
        fixed_labels, moving_labels: `(B, L, *shape)` float32 probabilities without background, or
            None.
        extent_mm: edge lengths of the grid.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_mask: torch.Tensor
    moving_mask: torch.Tensor
    fixed_labels: torch.Tensor | None
    moving_labels: torch.Tensor | None
    extent_mm: tuple[float, ...]

    def __len__(self) -> int:
        return self.fixed.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid."""
        return tuple(self.fixed.shape[2:])

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size of the grid."""
        return tuple(e / n for e, n in zip(self.extent_mm, self.shape, strict=True))

    @property
    def voxel_mm(self) -> float:
        """Edge of a cube as large as a voxel."""
        return math.prod(self.spacing_mm) ** (1 / len(self.shape))

    def take(self, rows: torch.Tensor) -> "Pairs":
        """The images of these pairs, without their labels; a pair may occur several times."""
        volumes = (self.fixed, self.moving, self.fixed_mask, self.moving_mask)
        fixed, moving, fixed_mask, moving_mask = (volume[rows] for volume in volumes)
        return Pairs(fixed, moving, fixed_mask, moving_mask, None, None, self.extent_mm)

    def at(self, factor: int) -> "Pairs":
        """The same pairs on a grid `factor` times coarser."""
        if factor == 1:
            return self
        shape = coarse_shape(self.shape, factor)

        def coarser(volume: torch.Tensor | None) -> torch.Tensor | None:
            return None if volume is None else resample(volume, shape)

        def smoothed(volume: torch.Tensor) -> torch.Tensor:
            return resample(gaussian_smooth(volume, 0.35 * factor), shape)

        return Pairs(
            smoothed(self.fixed),
            smoothed(self.moving),
            resample(self.fixed_mask, shape),
            resample(self.moving_mask, shape),
            coarser(self.fixed_labels),
            coarser(self.moving_labels),
            self.extent_mm,
        )


def comparable(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`(B, 1, *shape)` as similarities take it: continued beyond its mask, unit variance within."""
    return standardise(fill_beyond_mask(volume, mask), mask)


def fill_beyond_mask(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Continue `(B, 1, *shape)` beyond its mask with a near value inside.

    Padding then has no edge that a similarity could hold on to. Along one axis after the other,
    what has no value takes that of the nearest voxel of its line that has: beyond a box, the value
    of its nearest voxel.
    """
    inside = mask > 0.5
    if bool(inside.all()):
        return volume
    for axis in range(2, volume.dim()):
        volume = volume.gather(axis, _nearest_inside(inside, axis))
        inside = inside.any(dim=axis, keepdim=True).expand_as(inside)
    return volume


def _nearest_inside(inside: torch.Tensor, axis: int) -> torch.Tensor:
    """Index along `axis` of the nearest voxel inside; a voxel's own where its line has none."""
    size = inside.shape[axis]
    place = [1] * inside.dim()
    place[axis] = size
    own = torch.arange(size, device=inside.device).reshape(place).expand_as(inside)
    # a CPU scans twice as fast along the last axis, a GPU ten times as fast along the first one
    scan = 0 if inside.is_cuda else -1
    there, line = inside.movedim(axis, scan).contiguous(), own.movedim(axis, scan)
    before = line.where(there, -size).cummax(scan).values.movedim(scan, axis)
    after = line.where(there, 2 * size).flip(scan).cummin(scan).values.flip(scan)
    after = after.movedim(scan, axis)
    nearest = torch.where(own - before <= after - own, before, after)
    return own.where((nearest < 0) | (nearest >= size), nearest)


def standardise(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance within the mask, per volume `(B, 1, *shape)`."""
    axes = tuple(range(1, volume.dim()))
    weight = (mask > 0.5).to(volume.dtype)
    count = weight.sum(axes, keepdim=True).clamp(min=1)
    mean = (volume * weight).sum(axes, keepdim=True) / count
    variance = ((volume - mean) ** 2 * weight).sum(axes, keepdim=True) / count
    return (volume - mean) / variance.clamp(min=1e-12).sqrt()


def spanned(mask: torch.Tensor, multiple: int = 1, margin: int = 0) -> tuple[slice, ...]:
    """Smallest box around all that masks `(B, 1, *shape)` hold, as slices of the whole tensor.

    It begins at a multiple of `multiple`, so that every second voxel of it is one of every second
    voxel of the grid, whatever the box. `margin` voxels are added on all sides where there are any.
    """
    held = (mask > 0).any(dim=0)[0]
    box: list[slice] = [slice(None), slice(None)]
    for axis in range(held.dim()):
        others = [other for other in range(held.dim()) if other != axis]
        where = held.sum(dim=others).nonzero()
        first = max(0, int(where.min()) - margin) // multiple * multiple
        box.append(slice(first, int(where.max()) + 1 + margin))
    return tuple(box)
