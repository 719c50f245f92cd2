"""Batched deformable registration by gradient descent on a smoothed velocity field."""

import torch

from dreamorph.registration.config import VelocityConfig
from dreamorph.registration.pyramid import Pairs
from dreamorph.registration.similarity import LocalCorrelation, soft_dice
from dreamorph.spatial.affine import apply_affine
from dreamorph.spatial.grid import coarse_shape, points_like, resample, sample
from dreamorph.spatial.smoothing import gaussian_smooth
from dreamorph.spatial.velocity import exp_velocity


def register_velocity(
    pairs: Pairs,
    affine: torch.Tensor,
    config: VelocityConfig,
    window: int,
    label_weight: float,
) -> torch.Tensor:
    """Velocity fields v such that `moving(affine . exp(v)(x))` agrees with `fixed(x)`.

    Arsigny et al., MICCAI 2006 (stationary velocities); Avants et al. 2008 (local correlation).
    The pairs of a batch share nothing but the schedule, so a result does not depend on its batch.

    Args:
        pairs: the volumes at full resolution.
        affine: `(B, n, n)` from fixed to moving points.
        config: pyramid, smoothness and step of the optimiser.
        window: window of the local correlation, in voxels.
        label_weight: weight of the label overlap, used where the pairs carry labels.

    Returns:
        `(B, ndim, *coarse)` in mm on the grid `config.factor` times coarser than the volumes.
    """
    batch, ndim = pairs.fixed.shape[0], len(pairs.shape)
    smallest = coarse_shape(pairs.shape, max(config.levels[0], config.factor))
    raw = torch.zeros(batch, ndim, *smallest, device=pairs.fixed.device)
    for factor, iterations in zip(config.levels, config.iterations, strict=True):
        raw = resample(raw, coarse_shape(pairs.shape, max(factor, config.factor)))
        level = _Level(pairs.at(factor), affine, config, window, label_weight)
        raw = level.optimise(raw, iterations)
    return gaussian_smooth(raw, config.sigma)


class _Level:
    """One resolution of the pyramid."""

    def __init__(
        self,
        pairs: Pairs,
        affine: torch.Tensor,
        config: VelocityConfig,
        window: int,
        label_weight: float,
    ) -> None:
        self.pairs, self.affine, self.config = pairs, affine, config
        self.points = points_like(pairs.shape, pairs.spacing_mm, pairs.fixed.device)
        seen = sample(pairs.moving_mask, apply_affine(affine, self.points), pairs.extent_mm)
        stride = 2 if min(pairs.shape) >= 32 else 1
        self.agreement = LocalCorrelation.prepare(
            pairs.fixed, pairs.fixed_mask * seen, window, stride
        )
        self.label_weight = 0.0 if pairs.fixed_labels is None else label_weight
        self.moving = pairs.moving
        if self.label_weight > 0 and pairs.moving_labels is not None:
            self.moving = torch.cat([pairs.moving, pairs.moving_labels], dim=1)

    def optimise(self, raw: torch.Tensor, iterations: int) -> torch.Tensor:
        raw = raw.detach().requires_grad_()
        step = self.config.step_mm
        optimiser = torch.optim.Adam([raw], lr=step)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, 0.1 * step)
        for _ in range(iterations):
            optimiser.zero_grad()
            self.loss(raw).sum().backward()
            optimiser.step()
            schedule.step()
        return raw.detach()

    def loss(self, raw: torch.Tensor) -> torch.Tensor:
        """Loss of each pair `(B,)`."""
        velocity = gaussian_smooth(raw, self.config.sigma)
        displacement = exp_velocity(velocity, self.pairs.extent_mm, self.config.squarings)
        points = self.points + resample(displacement, self.pairs.shape)
        moved = sample(self.moving, apply_affine(self.affine, points), self.pairs.extent_mm)
        loss = 1 - self.agreement(moved[:, :1])
        if self.label_weight > 0 and self.pairs.fixed_labels is not None:
            loss = loss + self.label_weight * (1 - soft_dice(self.pairs.fixed_labels, moved[:, 1:]))
        return loss + self.config.diffusion * _diffusion(velocity, self.pairs.extent_mm)


def _diffusion(velocity: torch.Tensor, extent_mm: tuple[float, ...]) -> torch.Tensor:
    """Mean squared gradient `(B,)` of velocities `(B, ndim, *shape)`, mm per mm."""
    total = torch.zeros(velocity.shape[0], device=velocity.device)
    for axis, edge in enumerate(extent_mm):
        spacing = edge / velocity.shape[2 + axis]
        gradient = torch.diff(velocity, dim=2 + axis) / spacing
        total = total + gradient.square().sum(1).flatten(1).mean(1)
    return total
