"""Two ways of warping side by side in a batch."""

from dataclasses import replace

import torch

from dreamorph.dreaming.samplers import WarpSampler
from dreamorph.spatial import SpatialTransform


class MixedWarps:
    """Takes each sample from `warps` with probability `fraction`, else from `plain`.

    Both samplers draw for the whole batch, so their random streams do not depend on the mixture.
    """

    def __init__(self, warps: WarpSampler, plain: WarpSampler, fraction: float) -> None:
        self.warps, self.plain, self.fraction = warps, plain, fraction

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """See `WarpSampler.sample`."""
        warped = torch.rand(len(members), generator=generator) < self.fraction
        sources, transform = self.warps.sample(members, generator)
        plain_sources, plain = self.plain.sample(members, generator)
        return torch.where(warped.to(sources.device), sources, plain_sources), _choose(
            warped.to(transform.pre.device), transform, plain
        )


def _choose(
    first: torch.Tensor, one: SpatialTransform, other: SpatialTransform
) -> SpatialTransform:
    """Map by map `one` where `first` `(B,)` is true, else `other`."""
    matrix = first[:, None, None]
    velocity = None
    if one.velocity is not None or other.velocity is not None:
        velocities = _as_velocity(one, other), _as_velocity(other, one)
        velocity = torch.where(_spread(first, velocities[0]), *velocities)
    return replace(
        one,
        pre=torch.where(matrix, one.pre, other.pre),
        velocity=velocity,
        post=torch.where(matrix, one.post, other.post),
    )


def _as_velocity(transform: SpatialTransform, like: SpatialTransform) -> torch.Tensor:
    """Its velocity; zero on the other's grid where it has none."""
    if transform.velocity is not None:
        return transform.velocity
    if like.velocity is None:
        raise ValueError("neither transform has a velocity")
    return torch.zeros_like(like.velocity)


def _spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 1))
