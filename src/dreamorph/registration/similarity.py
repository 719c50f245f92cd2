"""How well two volumes agree, per pair of a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from dreamorph.registration.config import Similarity
from dreamorph.registration.crossmodal import SIGHT, SelfSimilarity
from dreamorph.spatial.on_gpu import takes
from dreamorph.spatial.smoothing import box_mean, box_spread

#: Local variance (of images with unit variance) under which a window counts as flat.
FLAT = 1e-3

#: Agreement `(B,)` of moved volumes `(B, 1, *shape)` with fixed ones prepared once; larger is
#: better.
Agreement = Callable[[torch.Tensor], torch.Tensor]


def prepare(
    kind: Similarity,
    fixed: torch.Tensor,
    mask: torch.Tensor,
    window: int = 5,
    stride: int = 1,
    granted: float = 0.0,
) -> Agreement:
    """The agreement of that kind with `fixed` `(B, 1, *shape)` where `mask` says that it counts.

    `window`, `stride` and `granted` are of the local correlation.
    """
    if kind == "mind":
        return SelfSimilarity.prepare(fixed, mask)
    return LocalCorrelation.prepare(fixed, mask, window, stride, granted)


def sight(kind: Similarity) -> int:
    """How many voxels beyond its mask an agreement of that kind looks."""
    return SIGHT if kind == "mind" else 0


@dataclass(frozen=True)
class LocalCorrelation:
    """Signed local normalised cross-correlation against fixed volumes prepared once.

    Avants et al., Medical Image Analysis 2008, without the square: contrast must agree in sign.
    Moments are taken over what a window holds of the mask, so nothing beyond it has a say. Windows
    count that the mask fills half as much as it fills any: of a stack of two slices, none is full.

    To both variances `FLAT` is added, lest noise in flat windows correlate. Alone that rewards
    contrast: a smooth volume then agrees better with what it is not than with itself. Where the
    covariance is granted as much, nothing agrees better with a volume than the volume itself
    (Cauchy and Schwarz), flat windows agree with flat ones, and maps are found to the truth. Where
    it is granted nothing, flat windows count for nothing, and agreement says how alike two are.

    Attributes:
        mask: what counts, `(B, 1, *shape)`.
        fixed: the fixed volumes within it, `(B, 1, *shape)`.
        mean, variance: local moments of the fixed volumes, `(B, 1, *windows)`.
        share: one over the share of each window that the mask fills.
        weight: where windows count, `(B, 1, *windows)`.
        factor: what the fixed volumes give to the mean of the correlations, `(B, 1, *windows)`.
        window, stride: edge of the windows and distance between them, in voxels.
        granted: added to every covariance: `FLAT` or 0.
    """

    mask: torch.Tensor
    fixed: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    share: torch.Tensor
    weight: torch.Tensor
    factor: torch.Tensor
    window: int
    stride: int
    granted: float

    @classmethod
    def prepare(
        cls,
        fixed: torch.Tensor,
        mask: torch.Tensor,
        window: int = 5,
        stride: int = 1,
        granted: float = 0.0,
    ) -> "LocalCorrelation":
        """Local moments of `fixed` `(B, 1, *shape)`; `mask` `(B, 1, *shape)` says what counts."""
        fixed, mask = fixed.contiguous(), mask.to(fixed.dtype).contiguous()
        filled = box_mean(mask, window, stride)
        share = 1 / filled.clamp(min=FLAT)
        within = fixed * mask
        mean = box_mean(within, window, stride) * share
        square = box_mean(within * fixed, window, stride) * share
        variance = (square - mean * mean).clamp(min=0)
        weight = filled * (filled > 0.5 * _largest(filled))
        total = weight.flatten(1).sum(1).clamp(min=1e-6)
        factor = weight * torch.rsqrt(variance + FLAT) / _spread(total, weight)
        return cls(mask, within, mean, variance, share, weight, factor, window, stride, granted)

    def back(self, moments: torch.Tensor) -> torch.Tensor:
        """Transpose of the means over windows, `(B, C, *windows)` to `(B, C, *shape)`."""
        return box_spread(moments, self.mask.shape[2:], self.window, self.stride)

    def shown(self) -> torch.Tensor:
        """Share `(B,)` of the windows that count in which the fixed volume is not flat."""
        return _weighted_mean((self.variance > FLAT).to(self.weight.dtype), self.weight)

    def __call__(self, moved: torch.Tensor) -> torch.Tensor:
        """Mean correlation `(B,)` in -1..1 of each moved volume with its fixed one."""
        if takes(moved):
            from dreamorph.registration.fused import Correlated

            value: torch.Tensor = Correlated.apply(moved, self, FLAT)
        else:
            value = _Correlated.apply(moved, self)
        return value


class _Correlated(torch.autograd.Function):
    """Local correlation and its gradient, which is made of the same moments.

    Written out: operation by operation, there and back, it moves twice as much memory.
    """

    @staticmethod
    def forward(ctx: Any, moved: torch.Tensor, local: LocalCorrelation) -> torch.Tensor:
        held = moved.new_empty(moved.shape[0], 3, *moved.shape[2:])
        torch.mul(moved, local.mask, out=held[:, :1])
        torch.mul(moved, held[:, :1], out=held[:, 1:2])
        torch.mul(moved, local.fixed, out=held[:, 2:])
        moments = box_mean(held, local.window, local.stride).mul_(local.share)
        mean, square, product = moments.split(1, dim=1)
        variance = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0)
        scale = variance.add_(FLAT).rsqrt_()
        covariance = torch.addcmul(product, mean, local.mean, value=-1)
        found = covariance.add_(local.granted).mul_(scale)
        if ctx.needs_input_grad[0]:
            # in the places of the moments the gradients by them, that by the square times -2
            torch.mul(scale, local.factor, out=product)
            torch.mul(found, scale.mul_(product), out=square)
            mean.mul_(square).addcmul_(product, local.mean, value=-1)
            by_mean, by_square, by_product = local.back(moments.mul_(local.share)).split(1, dim=1)
            gradient = by_mean.addcmul_(by_square, moved, value=-1).mul_(local.mask)
            ctx.save_for_backward(gradient.addcmul_(by_product, local.fixed))
        return found.mul_(local.factor).flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * _spread(gradients[0], gradient), None


@dataclass(frozen=True)
class GlobalCorrelation:
    """Normalised cross-correlation within a mask against fixed volumes prepared once.

    Attributes:
        weight: what counts how much, `(B, voxels)`, one in sum.
        fixed: the fixed volumes less their means, of unit variance, times the weight.
    """

    weight: torch.Tensor
    fixed: torch.Tensor

    @classmethod
    def prepare(cls, fixed: torch.Tensor, mask: torch.Tensor) -> "GlobalCorrelation":
        """Of `fixed` `(B, 1, *shape)` where `mask` `(B, 1, *shape)` says that it counts."""
        weight, volume = mask.to(fixed.dtype).flatten(1), fixed.flatten(1)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
        centred = volume - (volume * weight).sum(1, keepdim=True)
        held = centred * weight
        variance = (held * centred).sum(1, keepdim=True)
        return cls(weight, held * torch.rsqrt(variance + FLAT**2))

    def __call__(self, moved: torch.Tensor) -> torch.Tensor:
        """Correlation `(B,)` in -1..1 of each moved volume `(B, 1, *shape)` with its fixed one."""
        volume = moved.flatten(1)
        centred = volume - (volume * self.weight).sum(1, keepdim=True)
        variance = (centred.square() * self.weight).sum(1)
        return (centred * self.fixed).sum(1) * torch.rsqrt(variance + FLAT**2)


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


def _largest(filled: torch.Tensor) -> torch.Tensor:
    """Largest fill of each volume `(B, 1, *windows)`, of the same rank; exactly one where full."""
    largest = filled.amax(tuple(range(1, filled.dim())), keepdim=True)
    return torch.where(largest > 1 - FLAT, 1.0, largest)


def _spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 1))
