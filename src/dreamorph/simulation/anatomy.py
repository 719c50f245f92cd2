"""The anatomy that all simulated patients share: the deep brain of the MNI152 average.

nilearn carries the MNI ICBM152 2009 T1 average with its grey and white matter maps (Fonov et al.,
NeuroImage 2011) inside the package, so nothing is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from dreamorph.errors import CohortError
from dreamorph.spatial import extent

LABEL_NAMES = {1: "lateral ventricles", 2: "thalamus", 3: "caudate", 4: "putamen"}
CENTRE_MM = (0, -16, 10)
"""Centre of every simulated grid in MNI coordinates, between the lateral ventricles."""

_WORK_LOW, _WORK_HIGH = np.array([-64, -96, -56]), np.array([65, 65, 77])
_SEEDS_MM = {1: (6, 8, 12), 2: (10, -18, 8), 3: (13, 12, 10), 4: (27, 2, 2)}
_DEEP_BOX_MM = ((-33, 33), (-34, 24), (-2, 27))
_CSF, _NOT_WHITE = 0.6, 0.62


@dataclass(frozen=True)
class Anatomy:
    """A brain at 1 mm around `CENTRE_MM`, which is the origin of its grid millimetres.

    Attributes:
        intensity: `(1, 1, *shape)` float32, T1-weighted, 1 is the brightest.
        tissues: `(1, 3, *shape)` float32, probabilities of fluid, grey and white matter.
        labels: `(1, 1, *shape)` uint8, see `LABEL_NAMES`.
    """

    intensity: torch.Tensor
    tissues: torch.Tensor
    labels: torch.Tensor

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Edge lengths of the grid."""
        shape = self.intensity.shape[2:]
        return extent(shape, (1.0,) * len(shape))


@lru_cache(maxsize=1)
def load_anatomy() -> Anatomy:
    """Read the average brain and outline its structures; about two seconds, then remembered.

    Raises CohortError if the installed nilearn carries another template.
    """
    intensity, grey, white = _packaged_maps()
    fluid = np.clip(1 - grey - white, 0, 1) * (intensity > 0.05)
    ventricles = _ventricles(fluid)
    labels = _deep_grey(white, fluid, ventricles)
    labels[ventricles] = 1
    missing = [name for index, name in LABEL_NAMES.items() if not (labels == index).any()]
    if missing:
        raise CohortError(
            f"the brain template inside nilearn shows no {missing[0]}: install nilearn >= 0.14"
        )
    tissues = np.stack([fluid, grey, white])
    return Anatomy(
        torch.from_numpy(intensity)[None, None],
        torch.from_numpy(tissues)[None],
        torch.from_numpy(labels)[None, None],
    )


def _packaged_maps() -> list[np.ndarray]:
    """T1, grey and white matter in the working box, float32 from 0 to 1."""
    # imported here: it takes a second, and only a simulation needs it
    from nilearn import datasets

    loaders = (
        datasets.load_mni152_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
    )
    return [_crop(loader(resolution=1)) for loader in loaders]


def _crop(image: Any) -> np.ndarray:
    affine = np.asarray(image.affine)
    if not np.array_equal(affine[:3, :3], np.eye(3)):
        raise CohortError("the brain template inside nilearn is not at 1 mm: install nilearn>=0.14")
    origin = np.rint(-affine[:3, 3]).astype(int)
    window = tuple(
        slice(low, high) for low, high in zip(origin + _WORK_LOW, origin + _WORK_HIGH, strict=True)
    )
    return np.ascontiguousarray(image.get_fdata(dtype=np.float32)[window])


def _voxel(point_mm: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.asarray(point_mm) - _WORK_LOW)


def _both_sides(point_mm: Sequence[int]) -> list[tuple[int, ...]]:
    x, y, z = point_mm
    return [_voxel((x, y, z)), _voxel((-x, y, z))]


def _holding(mask: np.ndarray, seeds: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The connected parts of a mask that hold any of the seeds."""
    parts, _ = ndimage.label(mask)
    wanted = {int(parts[seed]) for seed in seeds} - {0}
    return np.isin(parts, list(wanted))


def _ventricles(fluid: np.ndarray) -> np.ndarray:
    """Both lateral ventricles with the septum between them: one body without holes.

    At 2 mm the septum is thinner than a voxel. Taken as a border it would be torn or not by any
    small motion, and no check of topology would be fair.
    """
    core = _holding(fluid > _CSF, _both_sides(_SEEDS_MM[1]))
    grown = ndimage.binary_dilation(core, iterations=2, mask=fluid > 0.4)
    return _smooth(ndimage.binary_closing(grown, _ball(3)))


def _deep_grey(white: np.ndarray, fluid: np.ndarray, ventricles: np.ndarray) -> np.ndarray:
    """Thalamus, caudate and putamen of both sides, each voxel given to the nearest core."""
    box = np.zeros(white.shape, dtype=bool)
    box[tuple(slice(lo, hi + 1) for lo, hi in zip(*_voxel_box(), strict=True))] = True
    deep = (ndimage.gaussian_filter(white, 0.7) < _NOT_WHITE) & (fluid < 0.4) & ~ventricles & box
    # the two thalami touch in a thin bridge that comes and goes with the resolution: cut it
    midline = _voxel((0, 0, 0))[0]
    deep[midline - 2 : midline + 3] = False
    deep = ndimage.binary_opening(deep, _ball(2))
    cores = ndimage.binary_erosion(deep, _ball(2))
    core_labels = np.zeros(white.shape, dtype=np.uint8)
    for index in (2, 3, 4):
        core_labels[_holding(cores, _both_sides(_SEEDS_MM[index]))] = index
    nearest = ndimage.distance_transform_edt(
        core_labels == 0, return_distances=False, return_indices=True
    )
    labels = np.where(deep, core_labels[tuple(nearest)], 0).astype(np.uint8)
    result = np.zeros_like(labels)
    for index in (2, 3, 4):
        mask = _smooth(labels == index)
        result[_holding(mask, _both_sides(_SEEDS_MM[index])) & ~ventricles] = index
    return result


def _voxel_box() -> tuple[tuple[int, ...], tuple[int, ...]]:
    lows, highs = zip(*_DEEP_BOX_MM, strict=True)
    return _voxel(lows), _voxel(highs)


def _smooth(mask: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """Smooth the surface of a mask and fill its holes."""
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), sigma) > 0.5
    return ndimage.binary_fill_holes(blurred)


def _ball(radius: int) -> np.ndarray:
    axes = np.ogrid[tuple(slice(-radius, radius + 1) for _ in range(3))]
    return np.asarray(sum(axis**2 for axis in axes) <= radius**2 + 0.5)
