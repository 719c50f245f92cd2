"""Reading a series: its geometry, its voxels in the units of the scanner (CT: HU), its bytes."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_modality_lut

from dreamorph.volumes.dicom.address import Address
from dreamorph.volumes.dicom.files import dicom_files, quietly, refused
from dreamorph.volumes.header import Header, UnreadableVolumeError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: A slice may lie off its place by so much of the distance between slices, along the stack, and
#: of the distance between pixels, across it; its axes and pixels may differ by so much.
_OFF_ALONG, _OFF_ACROSS, _OFF_AXES, _OFF_PIXELS = 0.1, 0.25, 1e-3, 1e-3
#: Of frames in one file: cosine beyond which they do not stand upright on one another.
_UPRIGHT = 1e-6
_GEOMETRY = [
    "SOPInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "Rows", "Columns", "NumberOfFrames",
]  # fmt: skip
#: What tells an image from other objects.
IMAGE = ("Modality", "ImageType", "ImagePositionPatient", "NumberOfFrames")
_IMAGES, _SCOUT = ("CT", "MR"), "LOCALIZER"
_CUT_SHORT = "a file is cut short or corrupt"
_IRREGULAR = (
    "the slices do not form one regular volume: several acquisitions in one series, missing"
    " slices, or slices of unequal size, direction or distance"
)


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices (one file each, or all in one) in their order, and the volume that they form.

    The volume's axes are slices, rows, columns. `frame` is the FrameOfReferenceUID, '' if unknown.
    """

    files: tuple[Path, ...]
    header: Header
    frame: str


def is_image(header: pydicom.Dataset) -> bool:
    """A slice of CT or MR that lies somewhere, or a file that holds many; no scout.

    `header` holds the attributes `IMAGE`.
    """
    placed = "ImagePositionPatient" in header or int(header.get("NumberOfFrames") or 1) > 1
    scout = _SCOUT in (header.get("ImageType") or ())
    return str(header.get("Modality") or "") in _IMAGES and placed and not scout


def read_header(address: Address) -> Header:
    """Geometry of a series, and so of what is drawn on it. Raises UnreadableVolumeError."""
    return stack_of(address).header


def stack_of(address: Address) -> Stack:
    """The slices of a series. Raises UnreadableVolumeError where they are no regular volume."""
    return _stack(address.folders, address.series)


def read_series(address: Address) -> np.ndarray:
    """Voxels (slices, rows, columns) float32, rescaled. Raises UnreadableVolumeError."""
    stack = stack_of(address)
    if len(stack.files) == 1:
        import highdicom

        with _decoding(stack.files[0]):
            image = highdicom.imread(stack.files[0])
            volume = image.get_volume(
                dtype=np.float32,
                apply_real_world_transform=False,
                apply_presentation_lut=False,
                perpendicular_tol=_UPRIGHT,
            )
            return np.asarray(volume.array).reshape(stack.header.shape)
    voxels = np.empty(stack.header.shape, dtype=np.float32)
    for number, file in enumerate(stack.files):
        with _decoding(file):
            one = pydicom.dcmread(file)
            voxels[number] = apply_modality_lut(one.pixel_array, one)
    return voxels


def content_digest(address: Address) -> str:
    """SHA-256 (hex) of all files' bytes, in whatever order they lie."""
    files = [*_files(address.folders, address.series)]
    files += [Path(address.drawn)] if address.drawn else []
    if not files:
        raise UnreadableVolumeError("the series is not in its folder")
    try:
        digests = {hashlib.sha256(file.read_bytes()).digest() for file in files}
    except OSError as error:
        raise UnreadableVolumeError(f"a file cannot be opened ({type(error).__name__})") from error
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def release() -> None:
    """Forget which files hold which series, and how they lie."""
    _stack.cache_clear()
    _series_in.cache_clear()


@cache
def _stack(folders: tuple[str, ...], series: str) -> Stack:
    files = _files(folders, series)
    with refused(_CUT_SHORT):
        headers = [
            pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*_GEOMETRY])
            for file in files
        ]
        first_of = {str(header.SOPInstanceUID): n for n, header in reversed([*enumerate(headers)])}
        kept = sorted(first_of.values())  # a slice may have been copied
    if not kept:
        raise UnreadableVolumeError("the series is not in its folder")
    if len(kept) == 1 and int(headers[kept[0]].get("NumberOfFrames") or 1) > 1:
        return _frames(files[kept[0]])
    if len(kept) == 1:
        raise UnreadableVolumeError("the series has one slice, expected a volume")
    with refused(_IRREGULAR):
        order, affine = _arranged([headers[n] for n in kept])
        first = headers[kept[0]]
        shape = len(kept), int(first.Rows), int(first.Columns)
        frame = str(first.get("FrameOfReferenceUID") or "")
    return Stack(tuple(files[kept[n]] for n in order), Header(shape, LPS_TO_RAS @ affine), frame)


def _arranged(slices: Sequence[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Order of slices, and affine (4, 4) from slice, row and column to LPS mm.

    The axis of slices goes the way that they really went, upright or not, so that a tilted gantry
    shows in the affine.
    """
    first = slices[0]
    spacing = np.array(first.PixelSpacing, dtype=np.float64)
    axes = np.array(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    for one in slices[1:]:
        turned = np.abs(np.array(one.ImageOrientationPatient, dtype=np.float64) - axes.ravel())
        scaled = np.abs(np.array(one.PixelSpacing, dtype=np.float64) / spacing - 1)
        alike = one.Rows == first.Rows and one.Columns == first.Columns
        same = one.get("FrameOfReferenceUID") == first.get("FrameOfReferenceUID")
        if not (alike and same) or turned.max() > _OFF_AXES or scaled.max() > _OFF_PIXELS:
            raise ValueError("slices differ")
    normal = np.cross(axes[0], axes[1])
    places = np.array([one.ImagePositionPatient for one in slices], dtype=np.float64)
    order = np.argsort(places @ normal, kind="stable")
    places = places[order]
    step = (places[-1] - places[0]) / max(len(slices) - 1, 1)
    off = places - (places[0] + np.arange(len(slices))[:, None] * step)
    along = off @ normal
    across = np.linalg.norm(off - along[:, None] * normal, axis=1)
    distance = float(step @ normal)
    if (
        not distance > 0
        or np.abs(along).max() > _OFF_ALONG * distance
        or across.max() > _OFF_ACROSS * spacing.min()
    ):
        raise ValueError("slices off their places")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = step, places[0]
    affine[:3, 1], affine[:3, 2] = axes[1] * spacing[0], axes[0] * spacing[1]
    return order, affine


def _frames(file: Path) -> Stack:
    """The stack of a file that holds all slices."""
    import highdicom

    with refused(_IRREGULAR):
        image = highdicom.imread(file, lazy_frame_retrieval=True)
        geometry = image.get_volume_geometry(perpendicular_tol=_UPRIGHT)
        if geometry is None or int(image.get("SamplesPerPixel", 1)) > 1:
            raise ValueError("no regular volume of one number a voxel")
        slices, rows, columns = geometry.spatial_shape
        header = Header((slices, rows, columns), LPS_TO_RAS @ geometry.affine)
        return Stack((file,), header, str(image.get("FrameOfReferenceUID") or ""))


@contextmanager
def _decoding(file: Path) -> Iterator[None]:
    """Say what cannot be read of a file's pixels, and what to do where they are compressed."""
    try:
        with refused("the pixels cannot be read, a file is cut short or corrupt"):
            yield
    except UnreadableVolumeError as error:
        raise UnreadableVolumeError(_of_coding(file) or str(error)) from None


def _of_coding(file: Path) -> str | None:
    """What to do about a file's compression, if it has one."""
    with quietly():
        try:
            syntax = read_file_meta_info(file).TransferSyntaxUID
            if not syntax.is_compressed:
                return None
        except Exception:  # not the name of a coding, or none at all
            return "the pixels are coded in a way that is not known; convert them (dcm2niix)"
    name = syntax.name
    return f"the pixels cannot be decoded ({name}); install python-gdcm, or convert (dcm2niix)"


def _files(folders: Sequence[str], series: str) -> list[Path]:
    return [file for folder in folders for file in _series_in(folder).get(series, ())]


@cache
def _series_in(folder: str) -> dict[str, list[Path]]:
    """Images of every series in a folder; other objects, and broken files, belong to none."""
    found: dict[str, list[Path]] = defaultdict(list)
    if not Path(folder).is_dir():
        return {}
    with quietly():
        for file in dicom_files(Path(folder)):
            try:
                header = pydicom.dcmread(
                    file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", *IMAGE]
                )
                if is_image(header):
                    found[str(header.SeriesInstanceUID)].append(file)
            except Exception:  # pydicom raises errors of many kinds
                continue
    return dict(found)
