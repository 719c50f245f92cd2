"""Small cohorts and samplers with known behaviour."""

from dataclasses import replace

import torch

from dreamorph.spatial import (
    SpatialTransform,
    coarse_shape,
    gaussian_smooth,
    identity_affine,
    points_like,
)
from dreamorph.training import TrainingData

SHAPE = (16, 16, 16)
SPACING = (1.0, 1.0, 1.0)


def moved(batch: int, shift_mm: torch.Tensor) -> SpatialTransform:
    """Maps that shift by `(batch, 3)` or `(3,)` mm."""
    affine = identity_affine(batch, 3)
    affine[:, :3, 3] = shift_mm
    return SpatialTransform.identity(batch, SHAPE, SPACING).before(affine)


class FakeWarps:
    """Shifts by up to `shift_mm`; with `warp_mm` also a smooth warp; sources as asked."""

    def __init__(self, shift_mm: float = 0.0, warp_mm: float = 0.0, source: int | None = None):
        self.shift_mm, self.warp_mm, self.source = shift_mm, warp_mm, source

    def sample(self, members, generator):
        shift = torch.rand(len(members), 3, generator=generator, dtype=torch.float64) * 2 - 1
        transform = moved(len(members), shift * self.shift_mm)
        if self.warp_mm:
            noise = torch.randn(len(members), 3, *coarse_shape(SHAPE, 2), generator=generator)
            transform = replace(transform, velocity=gaussian_smooth(noise, 1.5) * self.warp_mm)
        sources = members if self.source is None else torch.full_like(members, self.source)
        return sources, transform


def balls(radii=(3.0, 4.0, 5.0, 4.5)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bright balls in noise, with their labels; the outermost two planes are padding."""
    points = points_like(SHAPE, SPACING)
    distance = points.square().sum(1, keepdim=True).sqrt()
    labels = torch.cat([(distance < r) for r in radii]).to(torch.uint8)
    noise = torch.randn(len(radii), 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    masks = torch.ones_like(labels, dtype=torch.bool)
    masks[:, :, :2] = False
    labels = labels * masks
    return (labels * 2.0 - 0.5 + 0.3 * noise) * masks, labels, masks


def segmentation() -> TrainingData:
    images, labels, masks = balls()
    return TrainingData(images, labels, masks, None, 2)


def classification() -> TrainingData:
    images, labels, masks = balls((3.0, 5.5, 3.2, 5.2, 3.1))
    return TrainingData(images, labels, masks, torch.tensor([0, 1, 0, 1, 0]), 2)
