"""How well two volumes agree, per pair of a batch."""

from dataclasses import dataclass

import torch

from dreamorph.spatial.smoothing import box_mean

#: Local variance (of images with unit variance) under which a window counts as flat.
FLAT = 1e-3


@dataclass(frozen=True)
class LocalCorrelation:
    """Signed local normalised cross-correlation against fixed volumes prepared once.

    Avants et al., Medical Image Analysis 2008, without the square: contrast must agree in sign.

    Attributes:
        fixed, mean, variance: the fixed volumes `(B, 1, *shape)` and their local moments.
        weight: where windows count, `(B, 1, *windows)`.
        window, stride: edge of the windows and distance between them, in voxels.
    """

    fixed: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor
    window: int
    stride: int

    @classmethod
    def prepare(
        cls, fixed: torch.Tensor, mask: torch.Tensor, window: int = 5, stride: int = 1
    ) -> "LocalCorrelation":
        """Local moments of `fixed` `(B, 1, *shape)`; `mask` `(B, 1, *shape)` says what counts."""
        mean = box_mean(fixed, window, stride)
        variance = (box_mean(fixed * fixed, window, stride) - mean * mean).clamp(min=0)
        weight = box_mean(mask.to(fixed.dtype), window, stride)
        weight = weight * (weight > 0.5)
        return cls(fixed, mean, variance, weight, window, stride)

    def __call__(self, moved: torch.Tensor) -> torch.Tensor:
        """Mean correlation `(B,)` in -1..1 of each moved volume with its fixed one."""
        moments = box_mean(
            torch.cat([moved, moved * moved, moved * self.fixed], dim=1), self.window, self.stride
        )
        mean, square, product = moments.split(1, dim=1)
        covariance = product - mean * self.mean
        variance = (square - mean * mean).clamp(min=0)
        correlation = covariance * torch.rsqrt((variance + FLAT) * (self.variance + FLAT))
        return _weighted_mean(correlation, self.weight)


def correlation(fixed: torch.Tensor, moved: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Global normalised cross-correlation `(B,)` within a mask; all arguments `(B, 1, *shape)`."""
    weight = mask.to(fixed.dtype)
    a = fixed - _spread(_weighted_mean(fixed, weight), fixed)
    b = moved - _spread(_weighted_mean(moved, weight), moved)
    product = _weighted_mean(a * b, weight)
    norm = _weighted_mean(a * a, weight) * _weighted_mean(b * b, weight)
    return product * torch.rsqrt(norm + FLAT**2)


def soft_dice(fixed: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Mean Dice `(B,)` over the label channels `(B, L, *shape)` of probabilities.

    Labels that are absent from both volumes of a pair do not count.
    """
    axes = tuple(range(2, fixed.dim()))
    overlap = 2 * (fixed * moved).sum(axes)
    total = (fixed * fixed).sum(axes) + (moved * moved).sum(axes)
    present = (total > 0).to(fixed.dtype)
    dice = overlap / total.clamp(min=1e-6)
    return (dice * present).sum(1) / present.sum(1).clamp(min=1)


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(1, values.dim()))
    return (values * weight).sum(axes) / weight.sum(axes).clamp(min=1e-6)


def _spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 1))
