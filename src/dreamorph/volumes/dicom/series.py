"""Reading a series: its geometry, its voxels in the units of the scanner (CT: HU), its bytes.

highdicom sorts the slices by where they lie and refuses series that are no regular volume.
"""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.spatial import get_series_volume_positions

from dreamorph.volumes.dicom.address import Address
from dreamorph.volumes.dicom.files import dicom_files
from dreamorph.volumes.header import Header, UnreadableVolumeError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Cosines of two slices' axes may differ by so much.
_ORIENTATION_TOLERANCE = 1e-3


@contextmanager
def refused(why: str) -> Iterator[None]:
    """Turn whatever pydicom and highdicom raise about a file into one sentence of ours.

    They raise errors of many types, and their texts and warnings may repeat what the file says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UnreadableVolumeError:
            raise
        except AttributeError as error:
            raise UnreadableVolumeError(
                f"{why}: {error.name or 'an attribute'} is missing"
            ) from None
        except Exception as error:
            raise UnreadableVolumeError(f"{why} ({type(error).__name__})") from None


def read_header(address: Address) -> Header:
    """Geometry of a series, and so of what is drawn on it. Raises UnreadableVolumeError."""
    geometry = geometry_of(address)
    slices, rows, columns = geometry.spatial_shape
    return Header((slices, rows, columns), _LPS_TO_RAS @ geometry.affine)


def geometry_of(address: Address) -> highdicom.VolumeGeometry:
    """Geometry of a series in DICOM's terms: axes are slices, rows, columns; LPS."""
    files = _files_of(address)
    with refused(_IRREGULAR):
        slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        if "PerFrameFunctionalGroupsSequence" in slices[0]:
            image = highdicom.imread(_only(files), lazy_frame_retrieval=True)
            geometry = image.get_volume_geometry()
            if geometry is None:
                raise ValueError("no regular volume")
            return geometry
        spacing, places = get_series_volume_positions(
            slices, orientation_tol=_ORIENTATION_TOLERANCE
        )
        if spacing is None or places is None:
            raise ValueError("no regular volume")
        first = slices[places.index(0)]
        return highdicom.VolumeGeometry.from_attributes(
            image_position=first.ImagePositionPatient,
            image_orientation=first.ImageOrientationPatient,
            rows=first.Rows,
            columns=first.Columns,
            pixel_spacing=first.PixelSpacing,
            spacing_between_slices=spacing,
            number_of_frames=len(slices),
            coordinate_system="PATIENT",
            frame_of_reference_uid=first.FrameOfReferenceUID,
        )


def read_series(address: Address) -> np.ndarray:
    """Voxels (slices, rows, columns) float32, rescaled. Raises UnreadableVolumeError."""
    files = _files_of(address)
    with refused("a file is cut short or corrupt"):
        slices = [pydicom.dcmread(file) for file in files]
    coding = _coding(slices[0])
    with refused(
        f"the pixels cannot be decoded ({coding}); install python-gdcm, or convert them (dcm2niix)"
    ):
        if "PerFrameFunctionalGroupsSequence" not in slices[0]:
            for one in slices:
                _ = one.pixel_array  # kept: highdicom asks for it again
    with refused(_IRREGULAR):
        if "PerFrameFunctionalGroupsSequence" in slices[0]:
            image = highdicom.imread(_only(files))
            volume = image.get_volume(dtype=np.float32, apply_real_world_transform=False)
        else:
            volume = highdicom.get_volume_from_series(
                slices,
                dtype=np.float32,
                apply_real_world_transform=False,
                orientation_tol=_ORIENTATION_TOLERANCE,
            )
    if volume.number_of_channel_dimensions:
        raise UnreadableVolumeError("expected one number a voxel, got colours")
    return np.asarray(volume.array)


def content_digest(address: Address) -> str:
    """SHA-256 (hex) of all files' bytes, in whatever order they lie."""
    files = [*_files_of(address), *([Path(address.drawn)] if address.drawn else [])]
    try:
        digests = sorted(hashlib.sha256(file.read_bytes()).digest() for file in files)
    except OSError as error:
        raise UnreadableVolumeError(f"a file cannot be opened ({type(error).__name__})") from error
    return hashlib.sha256(b"".join(digests)).hexdigest()


def release() -> None:
    """Forget which files hold which series."""
    _series_in.cache_clear()


_IRREGULAR = (
    "the slices do not form one regular volume: several acquisitions in one series, missing"
    " slices, or slices of unequal size, direction or distance"
)


def _files_of(address: Address) -> Sequence[Path]:
    files = _series_in(address.folder).get(address.series)
    if not files:
        raise UnreadableVolumeError("the series is not in its folder")
    return files


@cache
def _series_in(folder: str) -> dict[str, list[Path]]:
    """Files of every series in a folder."""
    found: dict[str, list[Path]] = defaultdict(list)
    if Path(folder).is_dir():
        for file in dicom_files(Path(folder)):
            with refused("a file is cut short or corrupt"):
                header = pydicom.dcmread(
                    file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]
                )
                found[str(header.SeriesInstanceUID)].append(file)
    return dict(found)


def _only(files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise UnreadableVolumeError(
            f"expected one file with all slices, the series has {len(files)} of them"
        )
    return files[0]


def _coding(dataset: pydicom.Dataset) -> str:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    return syntax.name if syntax is not None else "unknown transfer syntax"
