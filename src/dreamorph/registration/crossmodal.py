"""Agreement of volumes whose contrasts differ: MIND-SSC."""

from dataclasses import dataclass
from itertools import combinations

import torch

from dreamorph.spatial.smoothing import box_mean

#: Distance between compared patches, in voxels.
_REACH = 2
#: Edge of a patch, in voxels.
_PATCH = 3
#: How far, in voxels, a descriptor sees.
SIGHT = _REACH + _PATCH // 2


@dataclass(frozen=True)
class SelfSimilarity:
    """MIND-SSC: how alike a voxel's neighbours are among themselves, whatever their brightness.

    Heinrich et al., MICCAI 2013 (self-similarity context): patch distances between all pairs of the
    axial neighbours that touch across an edge, 12 in 3D and 4 in 2D, through exp(-d / variance).

    Attributes:
        fixed: descriptors of the fixed volumes `(B, 12, *shape)`.
        weight: where they count, `(B, 1, *shape)`.
    """

    fixed: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def prepare(cls, fixed: torch.Tensor, mask: torch.Tensor) -> "SelfSimilarity":
        """Descriptors of `fixed` `(B, 1, *shape)`; `mask` `(B, 1, *shape)` says what counts."""
        weight = mask.to(fixed.dtype)
        return cls(self_similarity(fixed, weight), weight)

    def __call__(self, moved: torch.Tensor) -> torch.Tensor:
        """One minus the mean absolute difference of descriptors, `(B,)` in 0..1."""
        there = self_similarity(moved, self.weight)
        difference = (self.fixed - there).abs().mean(1, keepdim=True)
        axes = tuple(range(1, difference.dim()))
        total = self.weight.sum(axes).clamp(min=1e-6)
        return 1 - (difference * self.weight).sum(axes) / total


def self_similarity(volume: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """MIND-SSC descriptors `(B, C, *shape)` in 0..1 of volumes `(B, 1, *shape)`.

    `weight` `(B, 1, *shape)` says where to look for the variance that is typical of a volume.
    """
    ndim = volume.dim() - 2
    neighbours = [
        (_shifted(volume, axis, sign * _REACH), axis) for axis in range(ndim) for sign in (-1, 1)
    ]
    distances = torch.cat(
        [
            (a - b) ** 2
            for (a, first), (b, second) in combinations(neighbours, 2)
            if first != second
        ],
        dim=1,
    )
    distances = box_mean(distances, _PATCH)
    distances = distances - distances.amin(1, keepdim=True)
    variance = distances.mean(1, keepdim=True)
    axes = tuple(range(1, variance.dim()))
    total = weight.sum(axes, keepdim=True).clamp(min=1e-6)
    typical = ((variance * weight).sum(axes, keepdim=True) / total).detach()
    variance = torch.maximum(torch.minimum(variance, 1e3 * typical), 1e-3 * typical + 1e-9)
    return torch.exp(-distances / variance)


def _shifted(volume: torch.Tensor, axis: int, by: int) -> torch.Tensor:
    """The volume moved along a spatial axis, its border repeated."""
    size = volume.shape[2 + axis]
    index = (torch.arange(size, device=volume.device) + by).clamp(0, size - 1)
    return volume.index_select(2 + axis, index)
