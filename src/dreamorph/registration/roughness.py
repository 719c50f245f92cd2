"""How rough velocities are: mean squared first and second differences, as one quadratic form.

Written as differences of fields, the penalty and its gradient pass over the velocity a hundred times, which
took most of a step; along one axis a difference is a small matrix, and so is all that is made of it.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch

from dreamorph.spatial.smoothing import apply_along


class Roughness:
    """Penalty `(B,)` of velocities `(B, ndim, *shape)` in mm, on a grid of edges `extent_mm`.

    The mean square of the first differences, in mm per mm, times `diffusion`, and that of the
    differences of those from voxel to voxel, along every pair of axes, times `bending` `(B,)`. The
    mean is over the differences that there are; an axis too short to have any adds nothing.
    """

    def __init__(
        self,
        shape: Sequence[int],
        extent_mm: Sequence[float],
        diffusion: float,
        bending: torch.Tensor,
    ) -> None:
        per_mm = [(n / edge) ** 2 for n, edge in zip(shape, extent_mm, strict=True)]
        first = [_squared_difference(n, 1).to(bending.device) for n in shape]
        second = [_squared_difference(n, 2).to(bending.device) for n in shape]
        weight = bending.double().reshape(-1, 1, 1)
        #: Along each axis, what is made of the differences along it alone, `(B, n, n)`.
        self.alone = [
            (scale * (diffusion * one + weight * two)).to(bending.dtype)
            for scale, one, two in zip(per_mm, first, second, strict=True)
        ]
        #: Along each axis, its squared first difference, as is and weighted.
        self.first = [one.to(bending.dtype) for one in first]
        self.weighted = [(weight * one).to(bending.dtype) for one in first]
        self.both = {(a, b): per_mm[a] + per_mm[b] for a, b in combinations(range(len(shape)), 2)}

    def __call__(self, velocity: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = _Form.apply(velocity, self)  # type: ignore[no-untyped-call]
        return value

    def half_gradient(self, velocity: torch.Tensor) -> torch.Tensor:
        """Half of the gradient; its product with the velocity is the penalty."""
        axes = range(len(self.alone))
        bent = [apply_along(velocity, self.first[axis], axis) for axis in axes[1:]]
        total = apply_along(velocity, self.alone[-1], axes[-1])
        for axis in axes[:-1]:
            mixed = sum(self.both[axis, other] * bent[other - 1] for other in axes[axis + 1 :])
            total += apply_along(velocity, self.alone[axis], axis)
            total += apply_along(mixed, self.weighted[axis], axis)
        return total / velocity[0, 0].numel()


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
