"""Few plain numbers per volume, for the checks that compare dreams with reals as populations.

A dream is interpolated once, which blurs: compared with an untouched real volume, that alone would
give it away. So the reals are interpolated once too (`resampled_once`) before anything is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from dreamorph.hallucination.evidence import Reals
from dreamorph.spatial import extent, points_like, sample
from dreamorph.spatial.transform import argmax_labels, one_hot

#: Blocks along each axis of the coarse picture of a volume.
_BLOCKS = 6


def resampled_once(reals: Reals, seed: int) -> Reals:
    """The same cases after one interpolation, under a gentle wave of half a voxel.

    Each axis is displaced by two periods of a sine along the next axis, at a random phase: every
    sub-voxel offset occurs, as in a dream, while pose and volume stay (a turn or a shift would be
    a difference of its own). Image and labels are interpolated as a dream's are.
    """
    shape, spacing = reals.images.shape[2:], reals.spacing_mm
    ndim = len(shape)
    generator = torch.Generator().manual_seed(seed)
    phases = 2 * torch.pi * torch.rand(len(reals.cases), ndim, generator=generator)
    points = points_like(shape, spacing)
    sides = extent(shape, spacing)
    moved = []
    for axis in range(ndim):
        along = (axis + 1) % ndim
        angle = 4 * torch.pi * points[:, along] / sides[along]
        phase = phases[:, axis].reshape(-1, *[1] * ndim)
        moved.append(points[:, axis] + 0.5 * spacing[axis] * torch.sin(angle + phase))
    where = torch.stack(moved, dim=1)
    images, labels, masks = torch.empty_like(reals.images.float()), [], []
    for row in range(len(reals.cases)):  # the probabilities of all labels of all may not fit
        one = slice(row, row + 1)
        chances = one_hot(reals.labels[one], max(reals.n_labels, 1))
        both = sample(torch.cat([reals.images[one].float(), chances], dim=1), where[one], sides)
        seen = sample(reals.masks[one].float(), where[one], sides, "zeros") > 0.5
        images[one] = both[:, :1] * seen
        labels.append(argmax_labels(both[:, 1:]) * seen)
        masks.append(seen)
    return replace(reals, images=images, labels=torch.cat(labels), masks=torch.cat(masks))


def shape_features(
    labels: torch.Tensor, n_labels: int, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, list[str]]:
    """Volume (mL), surface area (mm2) of each label and distances (mm) between their centroids.

    Args:
        labels: `(B, 1, *shape)` integers.

    Returns:
        `(B, features)` with NaN where a label is absent, and the names. In 2D area and outline take
        the places of volume and surface. The surface is the total variation of the label smoothed
        by one voxel, which does not depend on how the surface lies on the grid.
    """
    spots = [_describe(volume, n_labels, spacing_mm) for volume in labels[:, 0].cpu().numpy()]
    values = np.arange(1, n_labels + 1)
    names = [f"volume_{k}" for k in values] + [f"surface_{k}" for k in values]
    rows = []
    for spot in spots:
        gaps = [np.linalg.norm(a.centre - b.centre) for a, b in combinations(spot, 2)]
        rows.append([s.volume_ml for s in spot] + [s.surface_mm2 for s in spot] + gaps)
    names += [f"distance_{a}_{b}" for a, b in combinations(values, 2)]
    return np.array(rows, float).reshape(len(labels), len(names)), names


@dataclass(frozen=True)
class Spot:
    """One label of one volume; NaN throughout where it is absent."""

    volume_ml: float
    surface_mm2: float
    centre: np.ndarray
    """Centre of mass in grid millimetres, `(ndim,)`."""


def _describe(labels: np.ndarray, n_labels: int, spacing_mm: Sequence[float]) -> list[Spot]:
    """The labels 1..n of one volume `(*shape)`."""
    spacing = np.asarray(spacing_mm, float)
    centre = (np.array(labels.shape) - 1) / 2
    found = []
    for k in range(1, n_labels + 1):
        where = np.nonzero(labels == k)
        size = len(where[0])
        if not size:
            found.append(Spot(np.nan, np.nan, np.full(labels.ndim, np.nan)))
            continue
        middle = (np.array([axis.mean() for axis in where]) - centre) * spacing
        box = np.zeros([axis.max() - axis.min() + 9 for axis in where], np.float32)
        box[tuple(axis - axis.min() + 4 for axis in where)] = 1
        smooth = ndimage.gaussian_filter(box, 1.0, mode="constant", truncate=3.0)
        slopes = np.gradient(smooth, *spacing)
        surface = np.sqrt(sum(slope**2 for slope in slopes)).sum(dtype=float) * spacing.prod()
        found.append(Spot(size * spacing.prod() / 1000, surface, middle))
    return found


def picture(images: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
    """Means over about 6 blocks per axis of the foreground, `(B, blocks)`; 0 where padding."""
    weight = masks.float()
    total = block_means(images.float() * weight, _BLOCKS)
    mean = total / block_means(weight, _BLOCKS).clamp_min(1e-3)
    return mean.flatten(1).double().numpy()


def block_means(volumes: torch.Tensor, blocks: int) -> torch.Tensor:
    """Means over at most so many blocks along each axis of `(B, C, *shape)`."""
    size = tuple(min(blocks, n) for n in volumes.shape[2:])
    if len(size) == 2:
        return functional.adaptive_avg_pool2d(volumes, (size[0], size[1]))
    return functional.adaptive_avg_pool3d(volumes, (size[0], size[1], size[2]))


def population_features(reals: Reals, components: int, *others: Reals) -> list[np.ndarray]:
    """Comparable features of several sets of volumes: principal components of the coarse picture
    and log shape features, standardised together.

    Returns one `(n, features)` array per set, the first for `reals`.
    """
    sets = [reals, *others]
    pictures = [picture(part.images, part.masks) for part in sets]
    blocks = _principal(np.concatenate(pictures), components)
    shapes = [_log_shapes(part) for part in sets]
    table = np.concatenate([blocks, np.concatenate(shapes)], axis=1)
    spread = table.std(axis=0)
    table = (table - table.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    cuts = np.cumsum([len(part.cases) for part in sets])[:-1]
    return np.split(table, cuts)


def _log_shapes(part: Reals) -> np.ndarray:
    """Log volume and surface, and the place of each label."""
    spots = [_describe(v, part.n_labels, part.spacing_mm) for v in part.labels[:, 0].cpu().numpy()]
    rows = [
        np.concatenate([[np.log(s.volume_ml), np.log(s.surface_mm2), *s.centre] for s in spot])
        if spot
        else np.zeros(0)
        for spot in spots
    ]
    # an absent label is as far from the rest as numbers here can be
    return np.nan_to_num(np.array(rows, float).reshape(len(spots), -1), nan=-10.0)


def _principal(table: np.ndarray, components: int) -> np.ndarray:
    centred = table - table.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    keep = min(components, len(values))
    return np.asarray(left[:, :keep] * values[:keep])
