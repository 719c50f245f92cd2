"""How strong and how rough a set of warps is, so that random ones can be made alike."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Strength:
    """In what random warps equal others.

    Attributes:
        energy: mean squared velocity, mm^2 per voxel and summed over axes.
        sigma_mm: widths, along each axis, of the Gaussian kernel that makes white noise as rough:
            with the same mean squared difference between neighbouring voxels, relative to the
            energy. Registrations are smoothed by voxels, so where these are long the width is.
    """

    energy: float
    sigma_mm: tuple[float, ...]


def strength_of(velocities: Iterable[torch.Tensor], extent_mm: Sequence[float]) -> Strength:
    """Measure velocities `(ndim, *coarse)` in mm on a grid of the given edge lengths.

    White noise under a kernel of width s has the correlation `exp(-r^2 / (4 s^2))`, so neighbours
    at distance h differ by `2 (1 - exp(-h^2 / (4 s^2)))` of its variance.
    """
    energy, count = 0.0, 0
    steps = [0.0] * len(extent_mm)
    shape: tuple[int, ...] = ()
    for velocity in velocities:
        shape = tuple(velocity.shape[1:])
        count += 1
        energy += float(velocity.square().sum(0).mean())
        for axis in range(len(steps)):
            steps[axis] += float(torch.diff(velocity, dim=1 + axis).square().sum(0).mean())
    if not count or energy == 0:
        return Strength(0.0, (min(extent_mm) / 4,) * len(extent_mm))
    widths = []
    for axis, (edge, size) in enumerate(zip(extent_mm, shape, strict=True)):
        if size == 1:
            widths.append(edge)
            continue
        share = min(max(steps[axis] / energy, 1e-6), 1.9)
        width = 0.5 * edge / size / math.sqrt(-math.log1p(-share / 2))
        widths.append(min(width, edge))  # where next to nothing differs along it
    return Strength(energy / count, tuple(widths))
