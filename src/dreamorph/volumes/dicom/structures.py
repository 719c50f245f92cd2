"""What a SEG or an RTSTRUCT draws, as a label map on the voxels of its series."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

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
#: Pixels between an outline and one within it, on average, below which one is the other's copy.
_WALL = 0.5


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
    import highdicom

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
    axes = [int(np.argmax(turn[axis])) for axis in range(3)]  # of the mask, for each of the volume
    moved, start = mask.transpose(axes), whole[:3, 3].astype(int)
    for axis, own in enumerate(axes):
        if whole[axis, own] < 0:
            moved = np.flip(moved, axis)
            start[axis] -= mask.shape[own] - 1
    placed = np.zeros(header.shape, dtype=bool)
    if not moved.any():
        return placed
    source, target = [], []
    for axis, (low, count) in enumerate(zip(start.tolist(), header.shape, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        held = np.flatnonzero(moved.any(axis=others))
        first, last = int(held[0]), int(held[-1]) + 1
        if low + first < 0 or low + last > count:
            raise UnreadableVolumeError(
                "the SEG reaches beyond the slices of the series that it names: are some missing?"
            )
        source.append(slice(first, last))
        target.append(slice(low + first, low + last))
    placed[tuple(target)] = moved[tuple(source)]
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
    """Refuse contours on every second or third slice; lesions may lie apart as they like."""
    gaps = np.diff(numbers)
    if len(gaps) >= 3 and any(2 * (gaps == every).sum() > len(gaps) for every in (2, 3)):
        raise UnreadableVolumeError(
            "the contours of the RTSTRUCT leave out most slices between them: export them"
            " interpolated to every slice"
        )


def _combined(drawn: Sequence[tuple[np.ndarray, str]], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels of all outlines of one plane; copies of an outline count once.

    What lies within another outline by less than `_WALL` on average is its copy, not a hole: so
    thin a wall no pixels show.
    """
    found = [(inside(outline, shape), outline, kind) for outline, kind in drawn]
    found.sort(key=lambda one: -_area(one[1]))
    together = np.zeros(shape, dtype=bool)
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    for mask, outline, kind in found:
        if kind != CLOSED_XOR and any(
            bigger[mask].all() and _area(own) - _area(outline) < _WALL * _length(own)
            for bigger, own in taken
        ):
            continue
        taken.append((mask, outline))
        if kind == CLOSED_XOR or (mask.any() and together[mask].all()):
            together ^= mask
        else:
            together |= mask
    return together


def _area(outline: np.ndarray) -> float:
    following = np.roll(outline, -1, axis=0)
    crossed = outline[:, 0] * following[:, 1] - outline[:, 1] * following[:, 0]
    return abs(float(crossed.sum())) / 2


def _length(outline: np.ndarray) -> float:
    return float(np.linalg.norm(np.roll(outline, -1, axis=0) - outline, axis=1).sum())


def inside(outline: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (rows, columns) whose centres a polygon (N, 2) holds, those on its line included.

    Row by row, between every second crossing of the line and the next: the even-odd rule.
    """
    mask = np.zeros(shape, dtype=bool)
    start, end = outline, np.roll(outline, -1, axis=0)
    first = max(int(np.ceil(outline[:, 0].min() - _ON_OUTLINE)), 0)
    last = min(int(np.floor(outline[:, 0].max() + _ON_OUTLINE)), shape[0] - 1)
    for row in range(first, last + 1):
        crossing = (start[:, 0] <= row) != (end[:, 0] <= row)
        a, b = start[crossing], end[crossing]
        columns = np.sort(a[:, 1] + (row - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))
        along = (abs(start[:, 0] - row) < _ON_OUTLINE) & (abs(end[:, 0] - row) < _ON_OUTLINE)
        edges = np.sort(np.stack([start[along, 1], end[along, 1]], axis=1), axis=1)
        corners = start[abs(start[:, 0] - row) < _ON_OUTLINE, 1]
        for low, high in [*columns.reshape(-1, 2), *edges, *np.stack([corners, corners], axis=1)]:
            begin = max(int(np.ceil(low - _ON_OUTLINE)), 0)
            mask[row, begin : max(int(np.floor(high + _ON_OUTLINE)) + 1, 0)] = True
    return mask
