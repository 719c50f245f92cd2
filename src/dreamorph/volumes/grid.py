"""One grid for all volumes of a cohort, and where each volume lies on it.

The axes of a volume are flipped and permuted to the nearest R, A, S, never rotated: an oblique
volume keeps its obliqueness in its own affine. Along each axis the voxel j of the common grid then
lies at the native index scale * j + offset, so the affine of the common grid follows exactly.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.io import Header

logger = logging.getLogger(__name__)

SAME_SPACING_DRIFT_VOXELS = 0.01
"""Spacings count as equal if over the whole extent they drift apart by less than this."""


@dataclass(frozen=True)
class CommonGrid:
    """Shape (D, H, W) and spacing in mm along R, A, S."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Placement:
    """Native index (RAS) = scale * grid index + offset, per axis; `affine`: grid index -> world."""

    scale: np.ndarray
    offset: np.ndarray
    affine: np.ndarray

    @property
    def is_shift(self) -> bool:
        """Whether grid and native voxels coincide, so that nothing needs interpolation."""
        return bool((self.scale == 1.0).all())


def common_grid(headers: Sequence[Header], config: CohortConfig) -> CommonGrid:
    """Smallest grid that holds every volume (headers in RAS), its sides rounded up to multiples.

    Without `config.spacing_mm` the spacing is the median of the volumes, made coarser by one
    factor for all axes, with a warning, until the grid has at most `config.max_grid_voxels`.
    """
    if config.spacing_mm is not None:
        spacing = np.array(config.spacing_mm, dtype=np.float64)
        shape = _shape(headers, spacing, config.grid_multiple)
        if math.prod(shape) > config.max_grid_voxels:
            logger.warning(
                "cohort.spacing_mm gives a grid of %s voxels, above cohort.max_grid_voxels = %d",
                shape, config.max_grid_voxels,
            )  # fmt: skip
        return CommonGrid(shape, config.spacing_mm)
    median = np.median([header.spacing_mm for header in headers], axis=0).round(4)
    spacing, shape = median, _shape(headers, median, config.grid_multiple)
    while math.prod(shape) > config.max_grid_voxels:
        # first the jump that the bare extents ask for, then small steps for the rounded sides
        bare = np.max([header.extent_mm for header in headers], axis=0) / spacing
        factor = (float(np.prod(bare)) / config.max_grid_voxels) ** (1 / 3)
        spacing = spacing * max(factor, 1.01)
        shape = _shape(headers, spacing, config.grid_multiple)
    if spacing is not median:
        spacing = np.ceil(spacing * 1000) / 1000
        shape = _shape(headers, spacing, config.grid_multiple)
        logger.warning(
            "the median spacing %s mm would exceed cohort.max_grid_voxels = %d: the common grid is"
            " coarsened to %s mm, %s voxels",
            _text(median), config.max_grid_voxels, _text(spacing), "x".join(map(str, shape)),
        )  # fmt: skip
    return CommonGrid(shape, (float(spacing[0]), float(spacing[1]), float(spacing[2])))


def place(header: Header, grid: CommonGrid) -> Placement:
    """Put a volume (header in RAS) with its centre on the centre of the grid.

    Where native and common spacing are equal the centre gives way by half a voxel, if it must, so
    that voxels coincide and nothing is blurred by a half-voxel interpolation.
    """
    native = header.spacing_mm
    scale, offset = np.empty(3), np.empty(3)
    for axis, (n, size) in enumerate(zip(header.shape, grid.shape, strict=True)):
        ratio = grid.spacing_mm[axis] / native[axis]
        if abs(ratio - 1) * n < SAME_SPACING_DRIFT_VOXELS:
            scale[axis], offset[axis] = 1.0, -((size - n) // 2)
        else:
            scale[axis], offset[axis] = ratio, (n - 1) / 2 - ratio * (size - 1) / 2
    step = np.diag([*scale, 1.0])
    step[:3, 3] = offset
    return Placement(scale, offset, header.affine @ step)


def scanned_box(shape: Sequence[int], placement: Placement, grid: CommonGrid) -> np.ndarray:
    """Mask (D, H, W) of the grid's voxels whose centre lies inside the scanned box."""
    mask = np.ones(grid.shape, dtype=bool)
    for axis, n in enumerate(shape):
        index = placement.scale[axis] * np.arange(grid.shape[axis]) + placement.offset[axis]
        inside = (index > -0.5 - 1e-6) & (index < n - 0.5 + 1e-6)
        mask &= np.expand_dims(inside, tuple(other for other in range(3) if other != axis))
    return mask


def _shape(headers: Sequence[Header], spacing: np.ndarray, multiple: int) -> tuple[int, int, int]:
    needed = np.ones(3, dtype=int)
    for header in headers:
        exact = header.extent_mm / spacing
        # a drift below the tolerance of `place` must not cost a whole multiple
        needed = np.maximum(needed, np.ceil(exact - SAME_SPACING_DRIFT_VOXELS).astype(int))
    sides = -(-needed // multiple) * multiple
    return int(sides[0]), int(sides[1]), int(sides[2])


def _text(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.3f}" for value in spacing)
