"""Stationary velocity fields: their exponential, its inverse, and composition of displacements."""

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


def log_velocity(
    displacement: torch.Tensor,
    extent_mm: Sequence[float],
    steps: int = STEPS,
    iterations: int = 20,
) -> torch.Tensor:
    """Velocity whose exponential is the given displacement, by fixed-point iteration.

    Bossa et al., MICCAI 2007: v <- v + (exp(-v) o phi - id). Converges for diffeomorphisms of
    moderate size; shapes and units as `exp_velocity`.
    """
    velocity = displacement
    for _ in range(iterations):
        backward = exp_velocity(-velocity, extent_mm, steps)
        velocity = velocity + compose(backward, displacement, extent_mm)
    return velocity


def _identity(field: torch.Tensor, extent_mm: Sequence[float]) -> torch.Tensor:
    shape = field.shape[2:]
    spacing = [e / n for e, n in zip(extent_mm, shape, strict=True)]
    return points_like(shape, spacing, field.device, field.dtype)
