"""Two ways of warping side by side in a batch."""

import torch

from dreamorph.dreaming.samplers import WarpSampler, either
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
        return torch.where(warped.to(sources.device), sources, plain_sources), either(
            warped.to(transform.pre.device), transform, plain
        )
