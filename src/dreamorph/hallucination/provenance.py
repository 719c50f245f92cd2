"""Check `provenance`: a dream holds nothing that its source does not.

A dream is a warp, so every voxel can be recomputed from its recipe: the source, interpolated at the
dream's points by another interpolator (`scipy.ndimage`, float64), must give the dream. Coordinates
pass through float32 on the way: at a voxel where the plain difference is too large, the change that
a coordinate error of 8 epsilon * grid size voxels can cause there is allowed for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence, Reals, RecipeLike
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding

#: Probabilities closer than this may fall to either label by round-off.
_TIE = 1e-3
#: Masks are compared at the nearest voxel, which errs by half a voxel along their rim.
_MASK_AGREEMENT = 0.9
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Origin:
    """How far one dream is from its source under its own transform.

    Attributes:
        error: largest difference beyond round-off, as a share of the source's intensity range.
        out_of_range: voxels brighter or darker than anything in the source.
        label_voxels: voxels whose label differs from the recomputed one.
        mask_agreement: share of voxels where the dream's mask is the source's, in 0..1.
    """

    error: float
    out_of_range: int
    label_voxels: int
    mask_agreement: float

    def ok(self, tolerance: float) -> bool:
        """Whether nothing was invented; NaN is not ok."""
        clean = self.out_of_range == 0 and self.label_voxels == 0
        return self.error <= tolerance and clean and self.mask_agreement >= _MASK_AGREEMENT


def measure_origin(
    dream: tuple[np.ndarray, np.ndarray, np.ndarray],
    source: tuple[np.ndarray, np.ndarray, np.ndarray],
    coordinates: np.ndarray,
    n_labels: int,
    tolerance: float = 1e-5,
) -> Origin:
    """Recompute a dream from its source.

    Args:
        dream: its image, labels and mask, `(*shape)`.
        source: those of the source.
        coordinates: where each voxel reads, `(ndim, *shape)` in voxels of the source, float64.
        n_labels: labels without background.
        tolerance: share of the range above which round-off is looked into.
    """
    (image, labels, own_mask), (original, original_labels, mask) = dream, source
    original, image = original.astype(np.float64), image.astype(np.float64)
    low, high = float(original.min()), float(original.max())
    span = high - low
    if not (math.isfinite(span) and span > 0 and np.isfinite(image).all()):
        return Origin(float("nan"), 0, 0, float("nan"))
    wrong = np.abs(image - _interpolate(original, coordinates))
    suspects = wrong > tolerance * span
    if suspects.any():
        blank = (image[suspects] == 0) & _may_be_blank(mask, coordinates[:, suspects])
        wrong[suspects] = np.where(blank, 0.0, wrong[suspects])
        suspects[suspects] = ~blank
    if suspects.any():
        slack = 8 * _EPSILON * max(original.shape) * _local_span(original, coordinates[:, suspects])
        wrong[suspects] = np.maximum(wrong[suspects] - slack, 0.0)
    margin = tolerance * span
    # a blank voxel is 0, which need not lie in the source's range
    beyond = ((image < low - margin) | (image > high + margin)) & (image != 0)
    nearest = _nearest(coordinates, mask.shape)
    seen = mask[nearest].astype(bool) & _within(coordinates, mask.shape)
    agreement = float((own_mask.astype(bool) == seen).mean())
    # labels need looking into only near the source's, and wherever the dream has some
    region = _grown(original_labels > 0)[nearest] | (labels > 0)
    truth = (original_labels, mask)
    changed = _changed_labels(labels[region], truth, coordinates[:, region], n_labels)
    return Origin(float(wrong.max()) / span, int(beyond.sum()), changed, agreement)


def voxel_coordinates(points: torch.Tensor, spacing_mm: Sequence[float]) -> np.ndarray:
    """Points `(ndim, *shape)` in grid millimetres as voxel indices of the same grid, float64."""
    found = points.detach().cpu().double().numpy()
    ndim = found.shape[0]
    column = (ndim, *[1] * ndim)
    centre = (np.array(found.shape[1:], float) - 1) / 2
    return np.asarray(found / np.array(spacing_mm, float).reshape(column) + centre.reshape(column))


def recipe_faults(
    recipe: RecipeLike, row: int, reals: Reals, prior_fingerprint: str | None
) -> list[str]:
    """What is missing or untrue in a recipe, given the row of `reals` the dream was made from."""
    if not 0 <= row < len(reals.cases):
        return ["source_index"]
    truths = {
        "source": recipe.source == reals.cases[row],
        "source_subject": recipe.source_subject == reals.subjects[row],
        "class": recipe.cls == reals.classes[row],
        "dream": bool(recipe.dream),
        "seed": isinstance(recipe.seed, int) and not isinstance(recipe.seed, bool),
        "prior": bool(recipe.prior) and prior_fingerprint in (None, recipe.prior),
        "scale": _finite([recipe.scale]),
        "coefficients": len(recipe.coefficients) > 0 and _finite(recipe.coefficients),
    }
    return [name for name, true in truths.items() if not true]


@check(
    "provenance",
    stage="dreams",
    severity="gate",
    quantity="largest difference of a dream from its source under the recorded warp",
    unit="share of intensity range",
    source="possible only because a dream is a warp",
)
def provenance(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Recompute every dream, image and labels, and read every recipe."""
    reals, dreams = evidence.reals, evidence.dreams
    n = len(dreams.images)
    rule = f"<= {config.provenance_tolerance:g}; 0 voxels out of range or relabelled; recipe whole"
    names = [recipe.dream for recipe in dreams.recipes]
    faults = [
        fault
        for recipe, row in zip(dreams.recipes, dreams.source_index.tolist(), strict=True)
        for fault in recipe_faults(recipe, row, reals, evidence.prior_fingerprint)
    ] + (["dream (not unique)"] if len(set(names)) < n else [])
    if len(names) != n or "source_index" in faults:
        detail = f"{n} dreams, {len(names)} recipes; faults: {', '.join(sorted(set(faults)))}"
        return Finding(float("nan"), config.provenance_tolerance, rule, n, False, detail)
    found = [origin_of(evidence, index, config) for index in range(n)]
    errors = np.array([f.error for f in found])
    invented = sum(not f.ok(config.provenance_tolerance) for f in found)
    detail = (
        f"{invented} of {n} dreams; voxels out of range {sum(f.out_of_range for f in found)}, "
        f"relabelled {sum(f.label_voxels for f in found)}; recipe faults {len(faults)}"
    )
    strange = sum(not f.mask_agreement >= _MASK_AGREEMENT for f in found)
    if strange:
        detail += f"; masks that are not their source's {strange}"
    if faults:
        detail += f" ({', '.join(sorted(set(faults)))})"
    value = float(errors.max()) if n else float("nan")  # NaN wins in numpy's max
    passed = None if n == 0 else invented == 0 and not faults
    return Finding(value, config.provenance_tolerance, rule, n, passed, detail)


def origin_of(evidence: DreamEvidence, index: int, config: AuditConfig) -> Origin:
    """`measure_origin` of one dream of the evidence."""
    reals, dreams = evidence.reals, evidence.dreams
    row = int(dreams.source_index[index])
    points = dreams.transforms[index : index + 1].points()[0]
    return measure_origin(
        (_array(dreams.images[index]), _array(dreams.labels[index]), _array(dreams.masks[index])),
        (_array(reals.images[row]), _array(reals.labels[row]), _array(reals.masks[row])),
        voxel_coordinates(points, reals.spacing_mm),
        reals.n_labels,
        config.provenance_tolerance,
    )


def _array(volume: torch.Tensor) -> np.ndarray:
    return np.asarray(volume[0].detach().cpu().numpy())


def _interpolate(volume: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    return np.asarray(
        ndimage.map_coordinates(
            volume, coordinates, output=np.float64, order=1, mode="nearest", prefilter=False
        )
    )


def _may_be_blank(mask: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Where a dream may show nothing: at points that see no more than half of the source's mask.

    Asked of the source's mask, not of the dream's, which could be made to excuse anything.
    """
    seen = ndimage.map_coordinates(
        mask.astype(np.float64), at, order=1, mode="grid-constant", cval=0.0, prefilter=False
    )
    return np.asarray(seen <= 0.5 + _TIE)


def _within(coordinates: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    inside = np.ones(coordinates.shape[1:], bool)
    for axis, size in zip(coordinates, shape, strict=True):
        inside &= np.abs(axis - (size - 1) / 2) < size / 2
    return inside


def _grown(where: np.ndarray) -> np.ndarray:
    """Bool array widened by one voxel, corners included; quicker than a filter."""
    for axis in range(where.ndim):
        wider = where.copy()
        ahead, behind = [slice(None)] * where.ndim, [slice(None)] * where.ndim
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        wider[tuple(behind)] |= where[tuple(ahead)]
        wider[tuple(ahead)] |= where[tuple(behind)]
        where = wider
    return where


def _local_span(volume: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Largest minus smallest voxel within one voxel of each place `(ndim, n)`."""
    span = ndimage.maximum_filter(volume, 3) - ndimage.minimum_filter(volume, 3)
    return np.asarray(span[_nearest(at, volume.shape)])


def _nearest(at: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(
        np.clip(np.rint(axis), 0, size - 1).astype(np.intp)
        for axis, size in zip(at, shape, strict=True)
    )


def _changed_labels(
    labels: np.ndarray, source: tuple[np.ndarray, np.ndarray], at: np.ndarray, n_labels: int
) -> int:
    """Places `at` `(ndim, n)` whose label `(n,)` is not the most probable one in the source.

    `source` is its labels and mask. Where no label is allowed at all, every label is wrong.
    """
    original, mask = source
    if not labels.size or n_labels == 0:
        return int(np.count_nonzero(labels))
    given = labels.astype(np.intp)
    shares = [_interpolate((original == k).astype(np.float64), at) for k in range(1, n_labels + 1)]
    chances = np.stack([1 - np.sum(shares, axis=0), *shares])
    own = np.take_along_axis(chances, np.minimum(given, n_labels)[None], axis=0)[0]
    wrong = (given > n_labels) | (own < chances.max(axis=0) - _TIE)
    if wrong.any():
        wrong[wrong] &= ~((given[wrong] == 0) & _may_be_blank(mask, at[:, wrong]))
    return int(np.count_nonzero(wrong))


def _finite(values: Sequence[float]) -> bool:
    return bool(np.isfinite(np.asarray(values, float)).all())
