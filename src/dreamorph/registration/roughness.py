"""How rough velocities are: mean squared first and second differences, as one quadratic form.

As differences of fields, the penalty and its gradient pass over the velocity a hundred times, more
than all else in a step. A difference along one axis is a small matrix, and so is its square.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from dreamorph.spatial.smoothing import apply_along


class Roughness:
    """Penalty `(B,)` of velocities `(B, ndim, *shape)` in mm, on a grid of edges `extent_mm`.

    The mean square of the first differences, in mm per mm, times `diffusion`, and that of the
    differences of those from voxel to voxel, along every pair of axes, times `bending` `(B,)` or
    `(1,)`. The mean is over the differences that there are; an axis too short to have any adds
    nothing. Of a velocity that hardly changes the value is rounded as its square is; the gradient,
    which is what counts, is as exact as that of the differences.

    Attributes:
        coefficients: of squared first differences along each axis, of second ones, and of those
            along each pair of axes, for the fused program; the latter six are times `bending`.
        alone: for each axis, half of the gradient by differences along it alone, `(B, n, n)`.
        slopes: for each axis but the first, the squared first difference.
        across: for each axis but the last, the same with the weight of differences along it and
            the next one.
        weights: for each axis but the last, weights of differences along it and each later one.
    """

    def __init__(
        self,
        shape: Sequence[int],
        extent_mm: Sequence[float],
        diffusion: float,
        bending: torch.Tensor,
    ) -> None:
        per_mm = [(n / edge) ** 2 for n, edge in zip(shape, extent_mm, strict=True)]
        self.bending = bending.float()
        self.coefficients = _coefficients(shape, per_mm, diffusion).to(bending.device)
        weight = bending.double().reshape(-1, 1, 1) / math.prod(shape)
        even = diffusion / math.prod(shape)
        slope = [_squared_difference(n, 1).to(bending.device) for n in shape]
        curve = [_squared_difference(n, 2).to(bending.device) for n in shape]
        alone = [s * (even * a + weight * b) for s, a, b in zip(per_mm, slope, curve, strict=True)]
        self.weights = [[a + b for b in per_mm[k + 1 :]] for k, a in enumerate(per_mm[:-1])]
        across = [weight * own[0] * a for own, a in zip(self.weights, slope[:-1], strict=True)]
        self.alone, self.slopes, self.across = (
            [matrix.to(bending.dtype) for matrix in matrices]
            for matrices in (alone, slope[1:], across)
        )

    def __call__(self, velocity: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = _Form.apply(velocity, self)
        return value

    def half_gradient(self, velocity: torch.Tensor) -> torch.Tensor:
        """Half of the gradient; its product with the velocity is the penalty."""
        last = len(self.alone) - 1
        total = apply_along(velocity, self.alone[last], last)
        steep = [apply_along(velocity, matrix, k + 1) for k, matrix in enumerate(self.slopes)]
        for axis, (weights, across) in enumerate(zip(self.weights, self.across, strict=True)):
            later = steep[axis]
            for other, weight in zip(steep[axis + 1 :], weights[1:], strict=True):
                later = torch.add(later, other, alpha=weight / weights[0])
            total += apply_along(velocity, self.alone[axis], axis)
            total += apply_along(later, across, axis)
        return total


class _Form(torch.autograd.Function):
    """The quadratic form, and a gradient that needs nothing but what its value needs."""

    @staticmethod
    def forward(ctx: Any, velocity: torch.Tensor, form: Roughness) -> torch.Tensor:
        half = form.half_gradient(velocity)
        ctx.save_for_backward(half)
        return (velocity * half).flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (half,) = ctx.saved_tensors
        return half * (2 * gradients[0]).reshape(-1, *[1] * (half.dim() - 1)), None


def _coefficients(shape: Sequence[int], per_mm: Sequence[float], diffusion: float) -> torch.Tensor:
    """What each kind of squared difference is times, one that an axis is too short for nothing."""
    axes = range(len(shape))
    first, second = ([n / (n - order) if n > order else 0.0 for n in shape] for order in (1, 2))
    alone = [diffusion * s * f for s, f in zip(per_mm, first, strict=True)]
    bent = [s * f for s, f in zip(per_mm, second, strict=True)]
    twisted = [(per_mm[a] + per_mm[b]) * first[a] * first[b] for a, b in combinations(axes, 2)]
    return torch.tensor([*alone, *bent, *twisted]) / math.prod(shape)


def _squared_difference(n: int, order: int) -> torch.Tensor:
    """`M` `(n, n)` float64 such that `x M x` is n times the mean square of differences of x."""
    if n <= order:
        return torch.zeros(n, n, dtype=torch.float64)
    difference = torch.diff(torch.eye(n, dtype=torch.float64), n=order, dim=0)
    return difference.T @ difference * (n / (n - order))
