"""Stationary velocity fields: their exponential, points that flow along them, composition."""

from collections.abc import Sequence

import torch

from dreamorph.spatial.grid import per_mm, points_like, sample
from dreamorph.spatial.interpolation import follow, interpolate
from dreamorph.spatial.on_gpu import fused

#: Squarings. With a midpoint step before them, further ones change a displacement by less than a
#: thousandth of a millimetre.
STEPS = 4
#: Steps of the integration of points. There and back again, points of real and simulated pairs came
#: to within a thousandth of a millimetre of themselves; with one step to within hundredths.
FLOW_STEPS = 2


def exp_velocity(
    velocity: torch.Tensor, extent_mm: Sequence[float], steps: int = STEPS
) -> torch.Tensor:
    """Displacement of the diffeomorphism that flows along a velocity for unit time.

    Scaling and squaring (Arsigny et al., MICCAI 2006), where the flow over the first and smallest
    stretch of time h is h v(x + h v(x) / 2), the midpoint rule, not h v(x): its error is of third
    order in h, so few squarings do.

    Args:
        velocity: `(B, ndim, *shape)` in mm.
        extent_mm: edge lengths of its grid.
        steps: number of squarings.

    Returns:
        u with `exp(v)(x) = x + u(x)`, `(B, ndim, *shape)` in mm.
    """
    scale = _scale(velocity, extent_mm)
    # in the units and the order of components of grid_sample, so that nothing is converted between
    start = (velocity * (scale * 0.5**steps)).flip(1)
    return squared(start, steps).flip(1) / scale


def squared(start: torch.Tensor, steps: int) -> torch.Tensor:
    """`exp_velocity` of `2**steps` times `start`, both in units and order of `grid_sample`."""
    if fused(start):
        from dreamorph.spatial.fused import Flow

        return Flow(start, steps).fields[-1]
    identity = _identity(start)
    moved = interpolate(start, torch.add(identity, start, alpha=0.5))
    for _ in range(steps):
        moved = moved + interpolate(moved, identity + moved)
    return moved


def flow(
    velocity: torch.Tensor,
    points: torch.Tensor,
    extent_mm: Sequence[float],
    steps: int = FLOW_STEPS,
) -> torch.Tensor:
    """Where points come to that flow along a velocity for unit time: `exp(v)(x)`.

    Each point follows the velocity, read linearly, by the classical Runge-Kutta method. Nothing is
    interpolated but the velocity itself, so flowing back along `-velocity` undoes it but for the
    error of the integration, however coarse the velocity's grid is.

    Args:
        velocity: `(B, ndim, *coarse)` in mm.
        points: `(B or 1, ndim, *any)` in grid millimetres.
        extent_mm: edge lengths of the velocity's grid.
        steps: stretches of time, each with four looks at the velocity.

    Returns:
        `(B, ndim, *any)` in grid millimetres.
    """
    scale = _scale(velocity, extent_mm)
    stretch = (velocity * (scale / steps)).flip(1)
    shape = points.shape[2:]
    if len(shape) != velocity.shape[1]:  # a list of points, for instance
        points = points.flatten(2).reshape(*points.shape[:2], -1, *[1] * (velocity.shape[1] - 1))
    at = (points.to(velocity.dtype) * scale).flip(1)
    at = follow(stretch, at, steps)
    return (at.flip(1) / scale).reshape(*at.shape[:2], *shape)


def compose(outer: torch.Tensor, inner: torch.Tensor, extent_mm: Sequence[float]) -> torch.Tensor:
    """Displacement of `x -> outer(inner(x))`; both `(B, ndim, *shape)` in mm on one grid."""
    shape = inner.shape[2:]
    spacing = [e / n for e, n in zip(extent_mm, shape, strict=True)]
    identity = points_like(shape, spacing, inner.device, inner.dtype)
    return inner + sample(outer, identity + inner, extent_mm)


def _scale(field: torch.Tensor, extent_mm: Sequence[float]) -> torch.Tensor:
    """From mm to units of `grid_sample`, shaped to multiply fields and points `(B, ndim, *)`."""
    scale = per_mm(tuple(extent_mm), field.device, field.dtype)
    return scale.reshape(1, -1, *[1] * (field.dim() - 2))


def _identity(field: torch.Tensor) -> torch.Tensor:
    """The voxel centres of a field's grid in units of `grid_sample`, the last axis first."""
    shape = field.shape[2:]
    return points_like(shape, [2.0 / n for n in shape], field.device, field.dtype).flip(1)
