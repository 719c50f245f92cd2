"""Agreement of a segmentation with its reference, per label, in millimetres and millilitres.

Where a label is absent:

- from both: nothing can be measured, all agreements are NaN and leave means alone;
- from one of the two: Dice and surface Dice are 0, and HD95 is the diagonal of the volume in mm,
  the largest distance there is, so that a missed structure never looks better than a bad one.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

#: Voxels kept around the structures when distances are measured.
MARGIN = 2
#: MONAI 1.6 calls itself by an argument it deprecates.
_OWN_DEPRECATION = "monai.metrics.utils get_mask_edges:always_return_as_numpy"


@dataclass(frozen=True)
class LabelAgreement:
    """How one label of one case agrees with its reference.

    Attributes:
        dice: 2 |A n B| / (|A| + |B|), 0..1.
        hd95_mm: the larger of both directed 95th percentiles of surface distance.
        surface_dice: share of both surfaces' area that lies within the tolerance of the other.
        volume_ml, reference_ml: volumes of prediction and reference.
    """

    dice: float
    hd95_mm: float
    surface_dice: float
    volume_ml: float
    reference_ml: float


def label_agreement(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float],
    tolerance_mm: float = 1.0,
) -> LabelAgreement:
    """Compare one structure in a volume or a slice.

    Distances by MONAI: HD95 between boundary voxels; surface Dice between surface elements weighted
    by their area (Nikolov et al., JMIR 2021). In 2D, millilitres are of a slice 1 mm thick.

    Args:
        predicted, reference: bool arrays of one shape, 2D or 3D.
        spacing_mm: voxel size along each axis.
        tolerance_mm: surface distance that counts as agreement.

    Raises:
        ValueError: shapes or spacing do not fit, or the tolerance is negative.
    """
    predicted, reference = np.asarray(predicted, dtype=bool), np.asarray(reference, dtype=bool)
    if predicted.shape != reference.shape or predicted.ndim != len(spacing_mm):
        raise ValueError(
            f"prediction {predicted.shape}, reference {reference.shape} and spacing "
            f"{tuple(spacing_mm)} must share one grid"
        )
    if tolerance_mm < 0:
        raise ValueError(f"tolerance_mm must not be negative, got {tolerance_mm}")
    voxel_ml = math.prod(spacing_mm) / 1000
    found, true = int(predicted.sum()), int(reference.sum())
    volumes = found * voxel_ml, true * voxel_ml
    if not found and not true:
        return LabelAgreement(math.nan, math.nan, math.nan, *volumes)
    if not found or not true:
        diagonal = math.hypot(*(n * s for n, s in zip(predicted.shape, spacing_mm, strict=True)))
        return LabelAgreement(0.0, diagonal, 0.0, *volumes)
    dice = 2 * int((predicted & reference).sum()) / (found + true)
    hd95, surface = _surfaces(*_cropped(predicted, reference), spacing_mm, tolerance_mm)
    return LabelAgreement(dice, hd95, surface, *volumes)


def _surfaces(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    """HD95 in mm and surface Dice of two structures that are both present."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    pair = [
        torch.from_numpy(volume.astype(np.float32))[None, None] for volume in (predicted, reference)
    ]
    spacing = [float(s) for s in spacing_mm]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_OWN_DEPRECATION, category=FutureWarning)
        hd95 = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=spacing
        )
        surface = compute_surface_dice(
            *pair,
            class_thresholds=[float(tolerance_mm)],
            include_background=True,
            spacing=spacing,
            use_subvoxels=True,
        )
    return float(hd95), float(surface)


def _cropped(predicted: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both cut to the box that holds them, with an empty margin: a surface at the border closes."""
    either = predicted | reference
    window = []
    for axis in range(either.ndim):
        used = np.flatnonzero(either.any(axis=tuple(a for a in range(either.ndim) if a != axis)))
        window.append(slice(used[0], used[-1] + 1))
    return (
        np.pad(predicted[tuple(window)], MARGIN),
        np.pad(reference[tuple(window)], MARGIN),
    )
