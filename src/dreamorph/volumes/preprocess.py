"""Fourth step: bring every volume into one orientation, spacing, intensity scale and grid."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter

from dreamorph.errors import CohortError
from dreamorph.fingerprint import fingerprint
from dreamorph.volumes import io
from dreamorph.volumes.cohort import TABLE_COLUMNS, Cohort
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.grid import CommonGrid, Placement, common_grid, place, scanned_box
from dreamorph.volumes.intensity import clip_percentiles, statistics_region, z_score
from dreamorph.volumes.records import CohortFacts, frame, rows
from dreamorph.volumes.splits import SPLITS, check_disjoint

logger = logging.getLogger(__name__)

_RAS = (("L", "R"), ("P", "A"), ("I", "S"))
_FWHM_PER_SIGMA = 2.3548


def preprocess(splits: pd.DataFrame, facts: CohortFacts, config: CohortConfig) -> Cohort:
    """Read the cases of the split table and put them on their common grid.

    Orientation to RAS and resampling are MONAI's. Image and label are interpolated once, trilinear;
    a label as one indicator image per label, of which the largest wins: that lay nearer to the true
    border than the nearest voxel does. Going to a coarser grid, images are smoothed first against
    aliasing (Cardoso et al. 2015), labels are not, or small structures would vanish. Volumes that
    need no resampling are copied voxel by voxel.

    MR percentiles are taken at native resolution and the z-score on the common grid, over the
    mask without the constant background of skull-stripped scans (`intensity.statistics_region`).
    Raises CohortError if a file has changed since validation.
    """
    cases = [row for row in rows(splits) if row["split"] in SPLITS]
    if not cases:
        raise CohortError("the split table holds no case of the splits train, unlabelled or test")
    check_disjoint(splits)
    headers = []
    for case in cases:
        with _named(case):
            headers.append(io.read_header(case["image"]).ras())
    grid = common_grid(headers, config)
    vanished: Counter[int] = Counter()
    images = np.empty((len(cases), 1, *grid.shape), dtype=np.float32)
    labels = np.empty((len(cases), 1, *grid.shape), dtype=np.uint8)
    masks = np.empty((len(cases), 1, *grid.shape), dtype=bool)
    affines = np.empty((len(cases), 4, 4), dtype=np.float64)
    for i, (case, header) in enumerate(zip(cases, headers, strict=True)):
        placement = place(header, grid)
        mask = scanned_box(header.shape, placement, grid)
        with _named(case):
            images[i, 0], labels[i, 0], lost = _volume(case, placement, mask, grid, facts, config)
        vanished.update(lost)
        masks[i, 0], affines[i] = mask, placement.affine
        case["fingerprint"] = fingerprint(images[i], labels[i], masks[i])
    io.release()
    logger.info(
        "common grid: %s voxels of %s mm for %d cases",
        "x".join(map(str, grid.shape)), " x ".join(f"{s:g}" for s in grid.spacing_mm), len(cases),
    )  # fmt: skip
    table = frame(cases, TABLE_COLUMNS).astype({"labelled": bool})
    cohort = Cohort(
        table=table,
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        masks=torch.from_numpy(masks),
        affines=affines,
        spacing_mm=grid.spacing_mm,
        label_names=dict(facts.label_names),
        class_names=list(facts.class_names),
        modality=facts.modality,
    )
    _warn_of_untaught_labels(cohort)
    for label, count in sorted(vanished.items()):
        logger.warning(
            "label %d (%s) of %d cases is too small for the common grid and lost on it; a smaller"
            " cohort.spacing_mm keeps it",
            label, cohort.label_names[label], count,
        )  # fmt: skip
    return cohort


def _warn_of_untaught_labels(cohort: Cohort) -> None:
    """A label that only test volumes have can be learned by no method, but is scored."""
    train, test = cohort.indices("train"), cohort.indices("test")
    for label, name in cohort.label_names.items():
        holds = (cohort.labels == label).flatten(1).any(1)
        if bool(holds[test].any()) and not bool(holds[train].any()):
            logger.warning(
                "label %d (%s) is in none of %d training volumes, but in %d of %d test volumes:"
                " every method misses it there; raise split.train_subjects or change split.seed",
                label, name, len(train), int(holds[test].sum()), len(test),
            )  # fmt: skip


@contextmanager
def _named(case: dict[str, Any]) -> Iterator[None]:
    """An error inside names the case."""
    try:
        yield
    except CohortError as error:
        raise CohortError(f"case {case['case']}: {error}") from error


def _volume(
    case: dict[str, Any],
    placement: Placement,
    mask: np.ndarray,
    grid: CommonGrid,
    facts: CohortFacts,
    config: CohortConfig,
) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Image (D, H, W) float32 and label (D, H, W) uint8 on the common grid; labels lost on it."""
    voxels = _oriented(case["image"], config.channel)
    if facts.modality == "CT":
        image = _resampled(_smoothed(_windowed(voxels, config), placement), placement, grid)
    elif facts.modality == "shape":
        indicator = (voxels > (voxels.min() + voxels.max()) / 2).astype(np.float32)
        image = (_resampled(indicator, placement, grid) > 0.5).astype(np.float32)
    else:
        region = statistics_region(voxels).astype(np.float32)
        clipped = clip_percentiles(voxels, config.mr_percentiles)
        image = _resampled(_smoothed(clipped, placement), placement, grid)
        image = z_score(image, mask & (_resampled(region, placement, grid) > 0.5))
    image = np.where(mask, image, np.float32(0))
    if case["label"] is None:
        return image, np.zeros(grid.shape, dtype=np.uint8), set()
    native = np.rint(_oriented(case["label"], 0))
    label = _resampled_label(native, facts.label_values, placement, grid) * mask
    held = {facts.label_values[v] for v in np.unique(native).tolist() if v in facts.label_values}
    return image, label, held - set(np.unique(label).tolist())


def _oriented(address: str, channel: int) -> np.ndarray:
    """Voxels in the nearest RAS orientation, (D, H, W) float32."""
    from monai.data import MetaTensor
    from monai.transforms import Orientation

    voxels = np.ascontiguousarray(io.read_voxels(address, channel), dtype=np.float32)
    affine = torch.from_numpy(io.read_header(address).affine)
    volume = MetaTensor(torch.from_numpy(voxels)[None], affine=affine)
    oriented = Orientation(axcodes="RAS", labels=_RAS)(volume)
    return np.ascontiguousarray(oriented[0].numpy())


def _windowed(voxels: np.ndarray, config: CohortConfig) -> np.ndarray:
    from monai.transforms import ScaleIntensityRange

    low, high = config.ct_window_hu
    scale = ScaleIntensityRange(a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True)
    return np.asarray(scale(voxels), dtype=np.float32)


def _smoothed(voxels: np.ndarray, placement: Placement) -> np.ndarray:
    """Blur by the difference of the two voxel widths, along axes that become coarser."""
    sigma = np.sqrt(np.maximum(placement.scale**2 - 1, 0)) / _FWHM_PER_SIGMA
    return gaussian_filter(voxels, sigma, mode="nearest") if sigma.any() else voxels


def _resampled(voxels: np.ndarray, placement: Placement, grid: CommonGrid) -> np.ndarray:
    """Values at the grid's voxels, (D, H, W) float32; beyond the border its nearest value."""
    if placement.is_shift:
        return _shifted(voxels, placement.offset.astype(int), grid)
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample

    step = torch.eye(4, dtype=torch.float64)
    step[:3, :3] = torch.from_numpy(np.diag(placement.scale))
    step[:3, 3] = torch.from_numpy(placement.offset)
    resample = SpatialResample(
        mode="bilinear", padding_mode="border", align_corners=False, dtype=np.float64
    )
    # in native voxels as the unit of length, so that far-away origins cost no precision
    source = MetaTensor(torch.from_numpy(voxels)[None], affine=torch.eye(4, dtype=torch.float64))
    moved = resample(source, dst_affine=step, spatial_size=grid.shape)
    return np.asarray(moved[0].numpy(), dtype=np.float32)


def _shifted(voxels: np.ndarray, offset: np.ndarray, grid: CommonGrid) -> np.ndarray:
    padding = [
        (-int(o), size + int(o) - n)
        for o, size, n in zip(offset, grid.shape, voxels.shape, strict=True)
    ]
    return np.pad(voxels, padding, mode="edge")


def _resampled_label(
    voxels: np.ndarray, values: dict[int, int], placement: Placement, grid: CommonGrid
) -> np.ndarray:
    if placement.is_shift:
        voxels = _shifted(voxels, placement.offset.astype(int), grid)
        result = np.zeros(grid.shape, dtype=np.uint8)
        for value, index in values.items():
            result[voxels == value] = index
        return result
    best = _resampled((voxels == 0).astype(np.float32), placement, grid)
    result = np.zeros(grid.shape, dtype=np.uint8)
    for value, index in values.items():
        share = _resampled((voxels == value).astype(np.float32), placement, grid)
        result[share > best] = index
        best = np.maximum(best, share)
    return result
