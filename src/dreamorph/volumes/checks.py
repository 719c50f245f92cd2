"""What can be wrong with a volume: one function per question, each a list of problems."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dreamorph.volumes.intensity import statistics_region
from dreamorph.volumes.io import Header

UNREADABLE = "unreadable"
UNLISTED = "not in dataset.json"
IMAGE_WITHOUT_LABEL = "image without label"
LABEL_WITHOUT_IMAGE = "label without image"
FILES_MISSING = "files missing"
INVALID_AFFINE = "invalid affine"
SHAPE_MISMATCH = "shape mismatch"
AFFINE_MISMATCH = "affine mismatch"
FOREIGN_GEOMETRY = "foreign geometry"
NON_FINITE = "non-finite voxels"
CONSTANT_IMAGE = "constant image"
UNEXPECTED_VALUES = "unexpected label values"
EMPTY_LABEL = "empty label"
DUPLICATE = "duplicate image"
AMBIGUOUS_LABEL = "ambiguous label"
MASK_AS_IMAGE = "mask instead of image"
SCAN_AMONG_SHAPES = "scan among shapes"
UNORIENTED = "no orientation"
NOT_HOUNSFIELD = "no Hounsfield units"

AFFINE_TOLERANCE_VOXELS = 0.1
MAX_AXIS_COSINE = 0.02
MIN_VOXELS_PER_AXIS = 4
#: By how much the voxel sizes of a header may differ from its affine's.
SIZE_TOLERANCE = 0.02
#: No scan measures so much; programs mark missing voxels by such values.
LARGEST_VALUE = 1e30
#: Label values may be off whole numbers by so much.
WHOLE = 1e-3
#: An image has more values than these.
FEW_VALUES = 8
MIN_FOREGROUND_SHARE = 0.005
MIN_HEADERS_FOR_MEDIAN = 3
_VALUES_SHOWN = 5


class Problem(NamedTuple):
    """A reason from the list above and one sentence, without file names."""

    reason: str
    detail: str


def affine_problems(header: Header, what: str) -> list[Problem]:
    """An affine that gives no honest millimetres: not finite, singular, or sheared."""
    affine = header.affine
    if not np.isfinite(affine).all():
        return [Problem(INVALID_AFFINE, f"the {what}'s affine is not finite")]
    spacing = header.spacing_mm
    if spacing.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        return [Problem(INVALID_AFFINE, f"the {what}'s affine is singular")]
    axes = affine[:3, :3] / spacing
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > MAX_AXIS_COSINE:
        angle = np.degrees(np.arccos(min(cosine, 1.0)))
        return [
            Problem(
                INVALID_AFFINE,
                f"the {what}'s axes stand at {angle:.1f} degrees instead of 90 (gantry tilt?)",
            )
        ]
    if header.noted_mm is not None and _ratio(spacing, header.noted_mm) > 1 + SIZE_TOLERANCE:
        return [
            Problem(
                INVALID_AFFINE,
                f"the {what}'s affine says {_times(spacing)} mm a voxel, its header"
                f" {_times(header.noted_mm)} mm; correct the one that is wrong",
            )
        ]
    if min(header.shape) < MIN_VOXELS_PER_AXIS:
        return [
            Problem(
                FOREIGN_GEOMETRY,
                f"the {what} has {_times(header.shape)} voxels, expected a volume with at least"
                f" {MIN_VOXELS_PER_AXIS} on every axis",
            )
        ]
    return []


def pair_problems(image: Header, label: Header) -> list[Problem]:
    """Image and label that do not cover the same voxels of the world. Both headers in RAS."""
    if label.channels > 1:
        return [
            Problem(SHAPE_MISMATCH, f"the label has {label.channels} channels, expected one map")
        ]
    if image.shape != label.shape:
        return [
            Problem(
                SHAPE_MISMATCH,
                f"image {_times(image.shape)} voxels, label {_times(label.shape)} voxels",
            )
        ]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape])).reshape(3, -1)
    offset = (image.affine - label.affine) @ np.vstack([corners, np.ones(corners.shape[1])])
    distance = float(np.linalg.norm(offset[:3], axis=0).max())
    if distance > AFFINE_TOLERANCE_VOXELS * image.spacing_mm.min():
        return [Problem(AFFINE_MISMATCH, f"image and label lie up to {distance:.2f} mm apart")]
    return []


def foreign_problems(
    headers: Sequence[Header], extent_factor: float, spacing_factor: float
) -> list[list[Problem]]:
    """Volumes (RAS) of another size or resolution than the median of all, per header."""
    if len(headers) < MIN_HEADERS_FOR_MEDIAN:
        return [[] for _ in headers]
    extents = np.array([header.extent_mm for header in headers])
    spacings = np.array([header.spacing_mm for header in headers])
    result = []
    for header, extent, spacing in zip(headers, extents, spacings, strict=True):
        far = _ratio(extent, np.median(extents, axis=0)) > extent_factor
        coarse = _ratio(spacing, np.median(spacings, axis=0)) > spacing_factor
        problem = Problem(
            FOREIGN_GEOMETRY,
            f"{_times(header.shape)} voxels of {_times(spacing)} mm, the cohort's median is"
            f" {_times(np.median(extents, axis=0))} mm at {_times(np.median(spacings, axis=0))} mm",
        )
        result.append([problem] if far or coarse else [])
    return result


def orientation_problems(headers: Sequence[Header]) -> list[list[Problem]]:
    """Volumes that do not say which way their axes point, where others do, per header."""
    if all(h.oriented for h in headers) or not any(h.oriented for h in headers):
        return [[] for _ in headers]
    detail = (
        "neither sform nor qform is set, so that left and right cannot be told, and other volumes"
        " of the cohort have one; set it"
    )
    return [[] if header.oriented else [Problem(UNORIENTED, detail)] for header in headers]


def image_problems(voxels: np.ndarray, percentiles: tuple[float, float]) -> list[Problem]:
    """Voxels that cannot be normalised."""
    if not np.issubdtype(voxels.dtype, np.integer):
        count = voxels.size - int((np.abs(voxels) < LARGEST_VALUE).sum())
        if count:
            return [Problem(NON_FINITE, f"{count} image voxels are NaN, infinite or beyond 1e30")]
    if voxels.min() == voxels.max():
        return [Problem(CONSTANT_IMAGE, f"every voxel is {voxels.flat[0]}")]
    if is_binary(voxels):
        return []
    region = statistics_region(voxels)
    if region.mean() < MIN_FOREGROUND_SHARE:
        return [Problem(CONSTANT_IMAGE, f"all but {region.sum()} voxels are {voxels.min()}")]
    low, high = np.percentile(voxels[region], percentiles)
    if low == high:
        return [Problem(CONSTANT_IMAGE, f"nearly every voxel of the foreground is {low:g}")]
    return []


def label_problems(voxels: np.ndarray, declared: set[int]) -> list[Problem]:
    """Values that are no label of the cohort. Whole numbers stored as floats are fine.

    An empty `declared` means that the data set names no labels: any whole number >= 0 is one.
    """
    values = np.unique(voxels).astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        return [Problem(UNEXPECTED_VALUES, "the label has NaN or infinite voxels")]
    whole = np.rint(values)  # a slope in the header leaves 1.0000001
    strange = values[(np.abs(values - whole) > WHOLE) | (whole < 0)]
    values = whole
    if strange.size:
        return [Problem(UNEXPECTED_VALUES, f"expected whole numbers >= 0, got {_listed(strange)}")]
    unknown = values[~np.isin(values, [0, *declared])] if declared else values[:0]
    if unknown.size:
        return [
            Problem(
                UNEXPECTED_VALUES,
                f"expected labels {_listed(sorted(declared))}, got {_listed(unknown)}",
            )
        ]
    if not (values > 0).any():
        return [Problem(EMPTY_LABEL, "the label map has no labelled voxel")]
    return []


def is_binary(voxels: np.ndarray) -> bool:
    """Whether the voxels take exactly two values."""
    low, high = voxels.min(), voxels.max()
    return bool(low != high and ((voxels == low) | (voxels == high)).all())


def few_values(voxels: np.ndarray) -> bool:
    """Whether the voxels take no more than FEW_VALUES whole values, as label maps do."""
    step = max(1, round((voxels.size / 2**18) ** (1 / 3)))
    values = np.unique(voxels[::step, ::step, ::step])
    if len(values) > FEW_VALUES or not (values == np.rint(values)).all():
        return False
    return bool(np.isin(voxels, values).mean() > 0.999)


def _ratio(values: np.ndarray, others: np.ndarray | Sequence[float]) -> float:
    other = np.asarray(others, dtype=np.float64)
    if not (other > 0).all():
        return float("inf")
    return float(np.maximum(values / other, other / values).max())


def _times(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _listed(values: Sequence[float] | np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in list(values)[:_VALUES_SHOWN])
    return shown + (", ..." if len(values) > _VALUES_SHOWN else "")
