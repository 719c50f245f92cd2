"""What a SEG or an RTSTRUCT draws, as a label map on the voxels of its series."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from matplotlib.path import Path as Outline

from dreamorph.volumes.dicom.address import Address
from dreamorph.volumes.dicom.series import geometry_of, read_series, refused
from dreamorph.volumes.header import UnreadableVolumeError

#: A contour's points may lie off a slice's middle by so much of the distance between slices.
_OFF_SLICE = 0.25
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_voxels(address: Address) -> np.ndarray:
    """Voxels (slices, rows, columns) of a series, or of the label map that is drawn on it.

    Raises UnreadableVolumeError.
    """
    if address.drawn is None:
        return read_series(address)
    geometry = geometry_of(address)
    with refused("the SEG or RTSTRUCT cannot be read"):
        header = pydicom.dcmread(address.drawn, specific_tags=["Modality"], stop_before_pixels=True)
        kind = header.Modality
    masks = _segments if kind == "SEG" else _regions
    values = max((value for _, value in address.paint), default=0)
    labels = np.zeros(geometry.spatial_shape, dtype=np.min_scalar_type(values))
    drawn = masks(Path(address.drawn), [number for number, _ in address.paint], geometry)
    for (_, value), mask in zip(address.paint, drawn, strict=True):
        covered = mask & (labels != 0) & (labels != value)
        if covered.any() and not address.overlap:
            raise UnreadableVolumeError(
                f"two structures overlap in {int(covered.sum())} voxels: name those wanted in"
                " cohort.structures, where later ones cover earlier ones"
            )
        labels[mask] = value
    return labels


def _segments(
    file: Path, numbers: list[int], geometry: highdicom.VolumeGeometry
) -> Iterator[np.ndarray]:
    """Mask of each segment of a SEG."""
    with refused("the SEG cannot be read"):
        seg = highdicom.seg.segread(file)
    for number in numbers:
        with refused("the SEG cannot be read as masks on one regular volume"):
            volume = seg.get_volume(segment_numbers=[number], dtype=np.float32)
        with refused("the SEG lies on another grid than the series that it names"):
            volume = volume.match_geometry(geometry)
        yield volume.array[..., 0] > 0.5


def _regions(
    file: Path, numbers: list[int], geometry: highdicom.VolumeGeometry
) -> Iterator[np.ndarray]:
    """Mask of each region of interest of an RTSTRUCT."""
    with refused("the RTSTRUCT cannot be read"):
        regions = {
            int(region.ReferencedROINumber): region.get("ContourSequence") or []
            for region in pydicom.dcmread(file).get("ROIContourSequence") or []
        }
    for number in numbers:
        with refused("the contours of the RTSTRUCT cannot be read"):
            contours = [
                np.asarray(contour.ContourData, dtype=np.float64).reshape(-1, 3)
                for contour in regions.get(number, [])
                if contour.ContourGeometricType in _CLOSED
            ]
        yield fill(contours, geometry)


def fill(contours: list[np.ndarray], geometry: highdicom.VolumeGeometry) -> np.ndarray:
    """Voxels (slices, rows, columns) whose centres lie within closed contours.

    Contours are (N, 3) points in the patient's coordinates (LPS, mm), each in one slice; one
    within another cuts a hole. Raises UnreadableVolumeError where one lies in no slice.
    """
    mask = np.zeros(geometry.spatial_shape, dtype=bool)
    by_slice: dict[int, list[np.ndarray]] = defaultdict(list)
    for contour in contours:
        voxels = geometry.map_reference_to_indices(contour)
        place = float(voxels[:, 0].mean())
        if np.abs(voxels[:, 0] - round(place)).max() > _OFF_SLICE:
            raise UnreadableVolumeError(
                "a contour of the RTSTRUCT does not lie in a slice of the series that it names"
            )
        if not 0 <= round(place) < mask.shape[0]:
            raise UnreadableVolumeError(
                "a contour of the RTSTRUCT lies beyond the slices of the series that it names"
            )
        by_slice[round(place)].append(voxels[:, 1:])
    for number, outlines in by_slice.items():
        for outline in outlines:
            mask[number] ^= _inside(outline, mask.shape[1:])
    return mask


def _inside(outline: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (rows, columns) whose centres a polygon (N, 2) holds."""
    mask = np.zeros(shape, dtype=bool)
    low = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, np.array(shape) - 1)
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, shape)
    rows, columns = (np.arange(start, end) for start, end in zip(low, high, strict=True))
    pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    within = Outline(outline, closed=False).contains_points(pixels)
    mask[low[0] : high[0], low[1] : high[1]] = within.reshape(len(rows), len(columns))
    return mask
