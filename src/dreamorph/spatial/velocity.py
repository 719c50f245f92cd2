"""Stationary velocity fields: their exponential and the composition of displacements."""

from collections.abc import Sequence

import torch

from dreamorph.spatial.grid import points_like, sample

#: Halvings before squaring: 2^-6 of the velocities met in practice is far below a voxel.
STEPS = 6


def exp_velocity(
    velocity: torch.Tensor, extent_mm: Sequence[float], steps: int = STEPS
) -> torch.Tensor:
    """Displacement of the diffeomorphism that flows along a velocity for unit time.

    Scaling and squaring: Arsigny et al., MICCAI 2006.

    Args:
        velocity: `(B, ndim, *shape)` in mm.
        extent_mm: edge lengths of its grid.
        steps: number of squarings.

    Returns:
        u with `exp(v)(x) = x + u(x)`, `(B, ndim, *shape)` in mm.
    """
    displacement = velocity * 0.5**steps
    identity = _identity(velocity, extent_mm)
    for _ in range(steps):
        displacement = displacement + sample(displacement, identity + displacement, extent_mm)
    return displacement


def compose(outer: torch.Tensor, inner: torch.Tensor, extent_mm: Sequence[float]) -> torch.Tensor:
    """Displacement of `x -> outer(inner(x))`; both `(B, ndim, *shape)` in mm on one grid."""
    return inner + sample(outer, _identity(inner, extent_mm) + inner, extent_mm)


def _identity(field: torch.Tensor, extent_mm: Sequence[float]) -> torch.Tensor:
    shape = field.shape[2:]
    spacing = [e / n for e, n in zip(extent_mm, shape, strict=True)]
    return points_like(shape, spacing, field.device, field.dtype)
