"""Few plain numbers per volume, for the checks that compare dreams with reals as populations.

A dream is interpolated once, which blurs: compared with an untouched real volume, that alone would
give it away. So the reals are interpolated once too (`resampled_once`) before anything is measured.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import prod

import numpy as np
import torch
from torch.nn import functional

from dreamorph.hallucination.evidence import Reals
from dreamorph.spatial import SpatialTransform, affine_exp, gaussian_smooth, points_like

#: Blocks along each axis of the coarse picture of a volume.
_BLOCKS = 6


def resampled_once(reals: Reals, seed: int) -> Reals:
    """The same cases after one interpolation: turned by about 2 degrees, moved by half a voxel.

    Image and labels are warped as a dream's are; the anatomy is unchanged.
    """
    ndim = len(reals.spacing_mm)
    generator = torch.Generator().manual_seed(seed)
    logs = torch.zeros(len(reals.cases), ndim + 1, ndim + 1, dtype=torch.float64)
    for i, j in combinations(range(ndim), 2):
        angle = 0.035 * _signs(len(logs), generator)
        logs[:, i, j], logs[:, j, i] = angle, -angle
    spacing = torch.tensor(reals.spacing_mm, dtype=torch.float64)
    shift = torch.stack([_signs(len(logs), generator) for _ in range(ndim)], dim=1)
    logs[:, :ndim, ndim] = 0.5 * shift * spacing
    shape = reals.images.shape[2:]
    still = SpatialTransform.identity(len(logs), shape, reals.spacing_mm)
    warp = still.before(affine_exp(logs))
    images, labels = warp.warp_with_labels(
        reals.images.float(), reals.labels, max(reals.n_labels, 1)
    )
    masks = warp.warp(reals.masks.float(), padding="zeros") > 0.5
    return replace(reals, images=images, labels=labels, masks=masks)


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
    volume_mm = prod(spacing_mm)
    masks = [(labels == k).float() for k in range(1, n_labels + 1)]
    names = [f"volume_{k}" for k in range(1, n_labels + 1)]
    columns = [mask.flatten(1).sum(1).double() * volume_mm / 1000 for mask in masks]
    names += [f"surface_{k}" for k in range(1, n_labels + 1)]
    columns += [_surface(mask, spacing_mm) for mask in masks]
    centres = [centroids(mask, spacing_mm) for mask in masks]
    for a, b in combinations(range(n_labels), 2):
        names.append(f"distance_{a + 1}_{b + 1}")
        columns.append((centres[a] - centres[b]).norm(dim=1))
    table = torch.stack(columns, dim=1).numpy() if columns else np.zeros((len(labels), 0))
    table[:, : 2 * n_labels][table[:, : 2 * n_labels] == 0] = np.nan
    return table, names


def centroids(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Centre of mass in grid millimetres, `(B, ndim)` float64, NaN where empty."""
    points = points_like(mask.shape[2:], spacing_mm).flatten(2).double()
    weights = mask.flatten(2).double()
    return (weights * points).sum(2) / weights.sum(2)


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
    table, _ = shape_features(part.labels, part.n_labels, part.spacing_mm)
    places = [
        centroids((part.labels == k).float(), part.spacing_mm).numpy()
        for k in range(1, part.n_labels + 1)
    ]
    joined = np.concatenate([np.log(table), *places], axis=1)
    # an absent label is as far from the rest as numbers here can be
    return np.nan_to_num(joined, nan=-10.0, neginf=-10.0)


def _principal(table: np.ndarray, components: int) -> np.ndarray:
    centred = table - table.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    keep = min(components, len(values))
    return np.asarray(left[:, :keep] * values[:keep])


def _surface(mask: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    padded = functional.pad(mask, (4, 4) * (mask.dim() - 2))
    smooth = gaussian_smooth(padded, 1.0)[:, 0]
    slopes = torch.gradient(smooth, spacing=tuple(spacing_mm), dim=tuple(range(1, smooth.dim())))
    length = torch.stack(slopes).square().sum(0).sqrt()
    return length.flatten(1).sum(1).double() * prod(spacing_mm)


def _signs(n: int, generator: torch.Generator) -> torch.Tensor:
    return 2.0 * torch.randint(0, 2, (n,), generator=generator).double() - 1.0
