"""Batched deformable registration by gradient descent on a smoothed velocity field."""

from math import prod

import torch

from dreamorph.registration.config import RegistrationConfig, VelocityConfig
from dreamorph.registration.descent import minimise
from dreamorph.registration.pyramid import Pairs, spanned
from dreamorph.registration.similarity import prepare, sight, soft_dice
from dreamorph.spatial.grid import coarse_shape, points_like, resample, sample
from dreamorph.spatial.smoothing import gaussian_smooth
from dreamorph.spatial.velocity import exp_velocity

#: Voxels of a batch from which a GPU's kernels outlast their launches: no use in recording them.
RECORDED_VOXELS = 2**23


def register_velocity(
    pairs: Pairs, affine: torch.Tensor, config: RegistrationConfig
) -> torch.Tensor:
    """Velocity fields v such that `moving(affine . exp(v)(x))` agrees with `fixed(x)`.

    Arsigny et al., MICCAI 2006 (stationary velocities); Avants et al. 2008 (local correlation).
    The pairs of a batch share nothing but the schedule, so a result does not depend on its batch.

    Args:
        pairs: the volumes at full resolution.
        affine: `(B, n, n)` from fixed to moving points.
        config: `config.velocity` with pyramid, smoothness and step of the optimiser; the similarity
            and, where the pairs carry labels, the weight of their overlap.

    Returns:
        `(B, ndim, *coarse)` in mm on the grid `factor` times coarser than the volumes.
    """
    how = config.velocity or VelocityConfig()
    batch, ndim = pairs.fixed.shape[0], len(pairs.shape)
    smallest = coarse_shape(pairs.shape, max(how.levels[0], how.factor))
    step_mm = min(how.step_mm, 0.5 * pairs.voxel_mm)
    raw = torch.zeros(batch, ndim, *smallest, device=pairs.fixed.device)
    for factor, iterations in zip(how.levels, how.iterations, strict=True):
        raw = resample(raw, coarse_shape(pairs.shape, max(factor, how.factor)))
        level = _Level(pairs.at(factor), affine, config, how)
        small = batch * prod(level.pairs.shape) < RECORDED_VOXELS
        raw = minimise(raw, level.loss, step_mm, iterations, record=small)
    return gaussian_smooth(raw, how.sigma)


class _Level:
    """One resolution of the pyramid.

    The loss is computed on the box that the fixed masks of the batch span. What lies beyond has no
    weight in it, and padding, shared by all pairs, may be half of the grid.
    """

    def __init__(
        self,
        pairs: Pairs,
        affine: torch.Tensor,
        config: RegistrationConfig,
        how: VelocityConfig,
    ) -> None:
        self.pairs, self.affine, self.config = pairs, affine, how
        stride = 2 if min(pairs.shape) >= 32 else 1
        self.box = spanned(pairs.fixed_mask, stride, sight(config.similarity))
        self.points = points_like(pairs.shape, pairs.spacing_mm, pairs.fixed.device)[self.box]
        seen = sample(pairs.moving_mask, self.points, pairs.extent_mm, "zeros", affine)
        counts = pairs.fixed_mask[self.box] * seen
        self.agreement = prepare(
            config.similarity, pairs.fixed[self.box], counts, config.window, stride
        )
        # padding adds nothing to roughness: its mean over the grid is for the share with content
        self.filled = pairs.fixed_mask.flatten(1).mean(1).clamp(min=1e-6)
        self.bending = torch.full((len(pairs),), how.bending, device=pairs.fixed.device)
        self.label_weight = 0.0 if pairs.fixed_labels is None else config.label_weight
        self.moving = pairs.moving
        if self.label_weight > 0 and pairs.fixed_labels is not None:
            assert pairs.moving_labels is not None
            self.moving = torch.cat([pairs.moving, pairs.moving_labels], dim=1)
            either = (pairs.fixed_labels + pairs.moving_labels).flatten(1).any(dim=1)
            self.bending = torch.where(either, how.guided_bending, self.bending)
            self.within = pairs.fixed_mask[self.box]
            self.fixed_labels = pairs.fixed_labels[self.box] * self.within

    def loss(self, raw: torch.Tensor) -> torch.Tensor:
        """Loss of each pair `(B,)`."""
        velocity = gaussian_smooth(raw, self.config.sigma)
        displacement = exp_velocity(velocity, self.pairs.extent_mm, self.config.squarings)
        points = self.points + resample(displacement, self.pairs.shape)[self.box]
        moved = sample(self.moving, points, self.pairs.extent_mm, affine=self.affine)
        loss = 1 - self.agreement(moved[:, :1])
        if self.label_weight > 0:
            overlap = soft_dice(self.fixed_labels, moved[:, 1:] * self.within)
            loss = loss + self.label_weight * (1 - overlap)
        extent_mm, diffusion = self.pairs.extent_mm, self.config.diffusion
        rough = _roughness(velocity, extent_mm, diffusion, self.bending)
        return loss + rough / self.filled


def _roughness(
    velocity: torch.Tensor, extent_mm: tuple[float, ...], diffusion: float, bending: torch.Tensor
) -> torch.Tensor:
    """Penalty `(B,)` of velocities `(B, ndim, *shape)`: mean squared first and second differences.

    The first in mm per mm; the second, of those from voxel to voxel, has the same unit. `bending`
    `(B,)` is the weight of the second for each pair.
    """
    total = torch.zeros(velocity.shape[0], device=velocity.device, dtype=velocity.dtype)
    for axis, edge in enumerate(extent_mm):
        gradient = torch.diff(velocity, dim=2 + axis) * (velocity.shape[2 + axis] / edge)
        total = total + diffusion * _mean_square(gradient)
        for other in range(len(extent_mm)):
            total = total + bending * _mean_square(torch.diff(gradient, dim=2 + other))
    return total


def _mean_square(field: torch.Tensor) -> torch.Tensor:
    """Mean over voxels of the squared length of vectors, `(B,)`."""
    return field.square().sum(1).flatten(1).mean(1)
