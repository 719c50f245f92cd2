"""How rough velocities are: mean squared first and second differences, as one quadratic form.

As differences of fields, the penalty and its gradient pass over the velocity a hundred times, more
than all else in a step. A difference along one axis is a small matrix, and so is its square.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from dreamorph.spatial.smoothing import apply_along


class Roughness:
    """Penalty `(B,)` of velocities `(B, ndim, *shape)` in mm, on a grid of edges `extent_mm`.

    The mean square of the first differences, in mm per mm, times `diffusion`, and that of the
    differences of those from voxel to voxel, along every pair of axes, times `bending` `(B,)` or
    `(1,)`. The mean is over the differences that there are; an axis too short to have any adds
    nothing.

    Attributes:
        alone: for each axis, what is made of differences along it alone, `(B, n, n)`.
        first, then: of the differences along two axes, the part along the second, without its
            weight, and along the first, which has the weight of that axis and the next.
    """

    def __init__(
        self,
        shape: Sequence[int],
        extent_mm: Sequence[float],
        diffusion: float,
        bending: torch.Tensor,
    ) -> None:
        per_mm = [(n / edge) ** 2 for n, edge in zip(shape, extent_mm, strict=True)]
        weight = bending.double().reshape(-1, 1, 1) / math.prod(shape)
        even = diffusion / math.prod(shape)
        slope = [_squared_difference(n, 1).to(bending.device) for n in shape]
        curve = [_squared_difference(n, 2).to(bending.device) for n in shape]
        alone = [s * (even * a + weight * b) for s, a, b in zip(per_mm, slope, curve, strict=True)]
        self.pairs = [[a + b for b in per_mm[k + 1 :]] for k, a in enumerate(per_mm[:-1])]
        then = [weight * pair[0] * one for pair, one in zip(self.pairs, slope[:-1], strict=True)]
        self.alone, self.first, self.then = (
            [matrix.to(bending.dtype) for matrix in matrices]
            for matrices in (alone, slope[1:], then)
        )

    def __call__(self, velocity: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = _Form.apply(velocity, self)
        return value

    def half_gradient(self, velocity: torch.Tensor) -> torch.Tensor:
        """Half of the gradient; its product with the velocity is the penalty."""
        last = len(self.alone) - 1
        total = apply_along(velocity, self.alone[last], last)
        bent = [apply_along(velocity, matrix, axis + 1) for axis, matrix in enumerate(self.first)]
        for axis, (weights, then) in enumerate(zip(self.pairs, self.then, strict=True)):
            mixed = bent[axis]
            for other, weight in zip(bent[axis + 1 :], weights[1:], strict=True):
                mixed = torch.add(mixed, other, alpha=weight / weights[0])
            total += apply_along(velocity, self.alone[axis], axis)
            total += apply_along(mixed, then, axis)
        return total


class _Form(torch.autograd.Function):
    """The quadratic form, and a gradient that needs nothing but what its value needs."""

    @staticmethod
    def forward(ctx: Any, velocity: torch.Tensor, form: Roughness) -> torch.Tensor:
        half = form.half_gradient(velocity)
        ctx.save_for_backward(half)
        return (velocity * half).flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (half,) = ctx.saved_tensors
        return half * (2 * gradients[0]).reshape(-1, *[1] * (half.dim() - 1)), None


def _squared_difference(n: int, order: int) -> torch.Tensor:
    """`M` `(n, n)` float64 such that `x M x` is n times the mean square of differences of x."""
    if n <= order:
        return torch.zeros(n, n, dtype=torch.float64)
    difference = torch.diff(torch.eye(n, dtype=torch.float64), n=order, dim=0)
    return difference.T @ difference * (n / (n - order))
