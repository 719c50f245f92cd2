"""What a SEG or an RTSTRUCT draws, as a label map on the voxels of its series."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import highdicom
import numpy as np
import pydicom
from matplotlib.path import Path as Outline

from dreamorph.volumes.dicom.address import Address
from dreamorph.volumes.dicom.files import refused
from dreamorph.volumes.dicom.series import LPS_TO_RAS, Stack, read_series, stack_of
from dreamorph.volumes.header import Header, UnreadableVolumeError

CLOSED, CLOSED_XOR = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
#: A contour's points may lie off a slice's middle by so much of the distance between slices, and
#: contours closer than this lie in one plane.
_OFF_SLICE, _ONE_PLANE = 0.25, 0.05
#: A segmentation's voxels may lie off the series' by so much of a voxel.
_OFF_VOXEL = 0.25
#: Points this close to an outline (pixels) are within it, as DICOM says (PS3.3 C.8.8.6.3).
_ON_OUTLINE = 1e-4


def read_voxels(address: Address) -> np.ndarray:
    """Voxels (slices, rows, columns) of a series, or of the label map that is drawn on it.

    Raises UnreadableVolumeError.
    """
    if address.drawn is None:
        return read_series(address)
    stack = stack_of(address)
    with refused("the SEG or RTSTRUCT cannot be read"):
        header = pydicom.dcmread(address.drawn, specific_tags=["Modality"], stop_before_pixels=True)
        masks = _segments if header.Modality == "SEG" else _regions
    values = max((value for _, value in address.paint), default=0)
    labels = np.zeros(stack.header.shape, dtype=np.min_scalar_type(values))
    drawn = masks(Path(address.drawn), [number for number, _ in address.paint], stack)
    for (_, value), mask in zip(address.paint, drawn, strict=True):
        covered = mask & (labels != 0) & (labels != value)
        if covered.any() and not address.overlap:
            raise UnreadableVolumeError(
                f"two structures overlap in {int(covered.sum())} voxels: name those wanted in"
                " cohort.structures, where later ones cover earlier ones"
            )
        labels[mask] = value
    return labels


def _segments(file: Path, numbers: Sequence[int], stack: Stack) -> Iterator[np.ndarray]:
    """Mask of each segment of a SEG."""
    with refused("the SEG cannot be read"):
        seg = highdicom.seg.segread(file)
    _check_frames({str(seg.get("FrameOfReferenceUID") or "")}, stack)
    for number in numbers:
        with refused("the SEG cannot be read as masks on one regular volume"):
            volume = seg.get_volume(segment_numbers=[number], dtype=np.float32, rtol=0.1)
            found = volume.array[..., 0] > 0.5
            affine = LPS_TO_RAS @ volume.affine
        yield place(found, affine, stack.header)


def place(mask: np.ndarray, affine: np.ndarray, header: Header) -> np.ndarray:
    """A mask on the voxels of a volume whose grid it shares, turned, flipped or cut out of it.

    Args:
        mask: (D, H, W) bool.
        affine: (4, 4), its voxels to RAS mm.
        header: of the volume.

    Returns:
        The mask in the volume's shape.

    Raises UnreadableVolumeError where the grids differ, or the mask reaches beyond the volume.
    """
    step = np.linalg.inv(header.affine) @ affine
    for axis, count in enumerate(mask.shape):
        if count == 1:  # how thick a single slice is, nothing hangs on
            step[:3, axis] /= np.abs(step[:3, axis]).max()
    whole = np.rint(step)
    ends = np.array(np.meshgrid(*[(0, count - 1) for count in mask.shape])).reshape(3, -1)
    off = ((step - whole) @ np.vstack([ends, np.ones(ends.shape[1])]))[:3]
    turn = np.abs(whole[:3, :3])
    if (
        (turn.sum(axis=0) != 1).any()
        or (turn.sum(axis=1) != 1).any()
        or abs(off).max() > _OFF_VOXEL
    ):
        raise UnreadableVolumeError("the SEG lies on another grid than the series that it names")
    voxels = (np.argwhere(mask) @ whole[:3, :3].T + whole[:3, 3]).astype(int)
    if (voxels < 0).any() or (voxels >= header.shape).any():
        raise UnreadableVolumeError(
            "the SEG reaches beyond the slices of the series that it names: are some missing?"
        )
    placed = np.zeros(header.shape, dtype=bool)
    placed[tuple(voxels.T)] = True
    return placed


class Contour(NamedTuple):
    """A closed outline (N, 3), in the patient's coordinates (LPS, mm)."""

    points: np.ndarray
    kind: str = CLOSED


def _regions(file: Path, numbers: Sequence[int], stack: Stack) -> Iterator[np.ndarray]:
    """Mask of each region of interest of an RTSTRUCT."""
    with refused("the RTSTRUCT cannot be read"):
        dataset = pydicom.dcmread(file)
        frames = {
            str(one.get("FrameOfReferenceUID") or "")
            for one in dataset.get("ReferencedFrameOfReferenceSequence") or []
        }
        regions = {
            int(region.ReferencedROINumber): region.get("ContourSequence") or []
            for region in dataset.get("ROIContourSequence") or []
        }
    _check_frames(frames, stack)
    for number in numbers:
        with refused("the contours of the RTSTRUCT cannot be read"):
            contours = [
                Contour(
                    np.asarray(one.ContourData, dtype=np.float64).reshape(-1, 3),
                    one.ContourGeometricType,
                )
                for one in regions.get(number, [])
                if one.get("ContourGeometricType") in (CLOSED, CLOSED_XOR)
                and one.get("ContourData")
            ]
            if not all(np.isfinite(contour.points).all() for contour in contours):
                raise UnreadableVolumeError("points of the RTSTRUCT are not finite")
        yield fill(contours, stack.header)


def _check_frames(frames: set[str], stack: Stack) -> None:
    if stack.frame and frames - {""} and stack.frame not in frames:
        raise UnreadableVolumeError(
            "the SEG or RTSTRUCT was drawn in another frame of reference than that of its series"
        )


def fill(contours: Sequence[Contour], header: Header) -> np.ndarray:
    """Voxels (slices, rows, columns) of a volume whose centres lie in closed contours, or on them.

    Each contour lies in one slice. One that lies wholly within what others enclose cuts a hole.
    Where several planes of contours fall into a slice, the one nearest to its middle counts.
    Raises UnreadableVolumeError where a contour lies in no slice, or most slices between are empty.
    """
    planes: dict[int, list[tuple[float, np.ndarray, str]]] = defaultdict(list)
    to_voxels = np.linalg.inv(header.affine) @ LPS_TO_RAS
    for points, kind in contours:
        voxels = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        number = round(float(voxels[:, 0].mean()))
        if np.abs(voxels[:, 0] - number).max() > _OFF_SLICE:
            raise UnreadableVolumeError(
                "a contour of the RTSTRUCT does not lie in a slice of the series that it names"
            )
        if not 0 <= number < header.shape[0]:
            raise UnreadableVolumeError(
                "a contour of the RTSTRUCT lies beyond the slices of the series that it names"
            )
        planes[number].append((float(voxels[:, 0].mean() - number), voxels[:, 1:], kind))
    _check_gaps(sorted(planes))
    mask = np.zeros(header.shape, dtype=bool)
    for number, drawn in planes.items():
        nearest = min((off for off, *_ in drawn), key=abs)
        own = [(outline, kind) for off, outline, kind in drawn if abs(off - nearest) < _ONE_PLANE]
        mask[number] = _combined(own, header.shape[1:])
    return mask


def _check_gaps(numbers: Sequence[int]) -> None:
    gaps = np.diff(numbers)
    if 2 * (gaps > 1).sum() > len(gaps):
        raise UnreadableVolumeError(
            "the contours of the RTSTRUCT leave out most slices between them: export them"
            " interpolated to every slice"
        )


def _combined(drawn: Sequence[tuple[np.ndarray, str]], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of all outlines of one plane; copies of an outline count once."""
    masks = [(_inside(outline, shape), kind) for outline, kind in drawn]
    distinct = {mask.tobytes(): (mask, kind) for mask, kind in masks}
    together = np.zeros(shape, dtype=bool)
    for mask, kind in sorted(distinct.values(), key=lambda one: -one[0].sum()):
        if kind == CLOSED_XOR or (mask.any() and together[mask].all()):
            together ^= mask
        else:
            together |= mask
    return together


def _inside(outline: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (rows, columns) whose centres a polygon (N, 2) holds, those on its line included."""
    mask = np.zeros(shape, dtype=bool)
    low = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, shape)
    rows, columns = (np.arange(start, end) for start, end in zip(low, high, strict=True))
    pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    # which side a radius adds to hangs on the direction in which the polygon runs
    polygon = Outline(outline, closed=False)
    within = polygon.contains_points(pixels, radius=_ON_OUTLINE)
    within |= polygon.contains_points(pixels, radius=-_ON_OUTLINE)
    mask[low[0] : high[0], low[1] : high[1]] = within.reshape(len(rows), len(columns))
    return mask
