"""Batched deformable registration by gradient descent on a smoothed velocity field."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from dreamorph.registration.config import RegistrationConfig, VelocityConfig
from dreamorph.registration.descent import by_autograd, minimise
from dreamorph.registration.pyramid import Pairs, spanned
from dreamorph.registration.roughness import Roughness
from dreamorph.registration.similarity import FLAT, prepare, sight, soft_dice
from dreamorph.spatial.grid import DisplacedGrid, coarse_shape, points_like, resample, sample
from dreamorph.spatial.on_gpu import fused
from dreamorph.spatial.smoothing import gaussian_smooth
from dreamorph.spatial.velocity import squared

if TYPE_CHECKING:
    from dreamorph.spatial.fused import Reading


def register_velocity(
    pairs: Pairs, affine: torch.Tensor, config: RegistrationConfig
) -> torch.Tensor:
    """Velocity fields v such that `moving(affine . exp(v)(x))` agrees with `fixed(x)`.

    Arsigny et al., MICCAI 2006 (stationary velocities); Avants et al. 2008 (local correlation).
    The pairs of a batch share nothing but the schedule and the box that is looked at, so a result
    does not depend on its batch but for rounding. Descent makes more of that: see
    `RegistrationConfig.batch_size`.

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
        level = _Level(pairs.at(factor), affine, config, how, raw.shape[2:])
        raw = minimise(raw, level.gradient, step_mm, iterations)
    return gaussian_smooth(raw, how.sigma)


class _Level:
    """One resolution of the pyramid.

    The loss is computed on the box that the fixed masks of the batch span. What lies beyond has no
    weight in it, and padding, shared by all pairs, may be half of the grid. `nodes` is the shape of
    the velocity.
    """

    def __init__(
        self,
        pairs: Pairs,
        affine: torch.Tensor,
        config: RegistrationConfig,
        how: VelocityConfig,
        nodes: Sequence[int],
    ) -> None:
        self.pairs, self.config = pairs, how
        stride = 2 if min(pairs.shape) >= 32 else 1
        box = spanned(pairs.fixed_mask, stride, sight(config.similarity))
        self.grid = DisplacedGrid(pairs.shape, pairs.extent_mm, affine, box, pairs.fixed.dtype)
        points = points_like(pairs.shape, pairs.spacing_mm, pairs.fixed.device)[box]
        seen = sample(pairs.moving_mask, points, pairs.extent_mm, "zeros", affine)
        counts = pairs.fixed_mask[box] * seen
        self.agreement = prepare(
            config.similarity, pairs.fixed[box], counts, config.window, stride, FLAT
        )
        # padding adds nothing to roughness: its mean over the grid is for the share with content
        self.filled = pairs.fixed_mask.flatten(1).mean(1).clamp(min=1e-6)
        bending = pairs.fixed.new_full((1,), how.bending)
        self.label_weight = 0.0 if pairs.fixed_labels is None else config.label_weight
        self.moving = pairs.moving
        if self.label_weight > 0 and pairs.fixed_labels is not None:
            assert pairs.moving_labels is not None
            self.moving = torch.cat([pairs.moving, pairs.moving_labels], dim=1)
            either = (pairs.fixed_labels + pairs.moving_labels).flatten(1).any(dim=1)
            bending = torch.where(either, how.guided_bending, bending)
            self.within = pairs.fixed_mask[box]
            self.fixed_labels = pairs.fixed_labels[box] * self.within
        self.roughness = Roughness(nodes, pairs.extent_mm, how.diffusion, bending)

    def gradient(self, raw: torch.Tensor) -> torch.Tensor:
        """The gradient of `loss`, summed over the pairs, by `raw`."""
        if not fused(raw, self.moving):
            return by_autograd(self.loss)(raw)
        from dreamorph.registration.fused import add_gradient
        from dreamorph.spatial.fused import Flow

        how = self.config
        velocity = gaussian_smooth(raw, how.sigma)
        units = [0.5**how.squarings * unit for unit in self.grid.per_mm]
        flow = Flow(velocity, how.squarings, units, flip=True)
        moved = self.reading.read(flow.fields[-1])
        by_moved = by_autograd(self.disagreement)(moved)
        total = flow.gradient(self.reading.gradient(flow.fields[-1], by_moved))
        add_gradient(self.roughness, velocity, 1 / self.filled, total)
        return gaussian_smooth(total, how.sigma)

    @cached_property
    def reading(self) -> "Reading":
        """Reads the moving volumes on the box."""
        from dreamorph.spatial.fused import Reading

        return Reading(self.moving, self.grid.maps, *self.grid.corner_and_shape)

    def loss(self, raw: torch.Tensor) -> torch.Tensor:
        """Loss of each pair `(B,)`."""
        velocity = gaussian_smooth(raw, self.config.sigma)
        start = self.grid.convert(velocity, 0.5**self.config.squarings)
        moved = self.grid.sample(self.moving, squared(start, self.config.squarings))
        return self.disagreement(moved) + self.roughness(velocity) / self.filled

    def disagreement(self, moved: torch.Tensor) -> torch.Tensor:
        """The part of the loss `(B,)` that moved volumes and labels `(B, C, *box)` have."""
        if self.label_weight == 0:
            return 1 - self.agreement(moved)
        overlap = soft_dice(self.fixed_labels, moved[:, 1:] * self.within)
        return 1 - self.agreement(moved[:, :1]) + self.label_weight * (1 - overlap)
