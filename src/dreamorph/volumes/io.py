"""Reading headers and voxels by address.

An address is a string: the path of a NIfTI file, `path.npz::member::index` for one volume of an
array in a MedMNIST file, or what `volumes.dicom` writes for a series and what was drawn on it, so
that such cohorts need not be unpacked or converted.
"""

import hashlib
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from dreamorph.volumes import dicom
from dreamorph.volumes.header import Header, UnreadableVolumeError

ENDINGS = (".nii.gz", ".nii")
MAX_VOXELS = 2**31
_SEPARATOR = "::"
_FOREIGN = (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".gipl", ".tif", ".tiff")
_UNITS_MM = {"meter": 1000.0, "micron": 0.001}
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    MemoryError,
    OverflowError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)


def stem(path: Path) -> str:
    """File name without its NIfTI ending."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def npz_address(path: Path, member: str, index: int) -> str:
    """Address of volume `index` of array `member` in an npz file."""
    return _SEPARATOR.join((str(path), member, str(index)))


def _in_npz(address: str) -> bool:
    """Whether an address is one of `npz_address`; a path may hold its separator too."""
    parts = address.rsplit(_SEPARATOR, 2)
    return len(parts) == 3 and parts[2].isdecimal()


def read_header(address: str) -> Header:
    """Geometry as stored, in mm whatever the file's unit. Raises UnreadableVolumeError."""
    if dicom.is_address(address):
        return dicom.read_header(dicom.Address.parse(address))
    if _in_npz(address):
        path, member, _ = address.rsplit(_SEPARATOR, 2)
        return Header(_volume_shape(npz_shape(path, member)[1:], 0), np.eye(4))
    image = _load(address)
    affine = getattr(image, "affine", None)
    if affine is None:
        raise UnreadableVolumeError("expected a NIfTI volume with an affine")
    shape = _volume_shape(tuple(image.shape), 0)
    unit = _unit_mm(image)
    affine = np.diag([*[unit] * 3, 1.0]) @ np.asarray(affine, dtype=np.float64)
    channels = _channels(tuple(image.shape))
    codes = [image.header.get(code, 1) for code in ("sform_code", "qform_code")]
    noted = [unit * abs(float(size)) for size in image.header.get_zooms()[:3]]
    return Header(shape, affine, channels, any(codes), (noted[0], noted[1], noted[2]))


def read_voxels(address: str, channel: int = 0) -> np.ndarray:
    """Voxels (D, H, W) in the stored orientation and type. Raises UnreadableVolumeError."""
    if dicom.is_address(address):
        return dicom.read_voxels(dicom.Address.parse(address))
    if _in_npz(address):
        return _npz_volume(address)
    image = _load(address)
    shape = tuple(image.shape)
    spatial = _volume_shape(shape, channel)
    try:
        data = image.dataobj
        voxels = np.asanyarray(data[:, :, :, channel] if _channels(shape) > 1 else data)
        voxels = voxels.reshape(spatial)  # axes of one voxel may follow
    except _BROKEN as error:
        raise UnreadableVolumeError(
            f"the voxels cannot be read, the file is cut short or corrupt ({type(error).__name__})"
        ) from error
    if not (np.issubdtype(voxels.dtype, np.number) or voxels.dtype == bool) or np.iscomplexobj(
        voxels
    ):
        raise UnreadableVolumeError(f"expected real numbers, got voxels of type {voxels.dtype}")
    return voxels


def content_digest(address: str) -> str:
    """SHA-256 (hex) of the file's bytes, or of the volume's where many lie in one file."""
    if dicom.is_address(address):
        return dicom.content_digest(dicom.Address.parse(address))
    if _in_npz(address):
        return hashlib.sha256(np.ascontiguousarray(_npz_volume(address)).tobytes()).hexdigest()
    try:
        with Path(address).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableVolumeError(
            f"the file cannot be opened ({type(error).__name__})"
        ) from error


def to_ras(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxels in the stored orientation, their axes flipped and permuted to the nearest R, A, S."""
    return np.asarray(nib.apply_orientation(voxels, nib.io_orientation(affine)))


def voxel_digest(voxels: np.ndarray) -> str:
    """Sixteen hex digits of the voxels' values, the same for any storage type that holds them."""
    digest = hashlib.sha256(str(voxels.shape).encode())
    with np.errstate(over="ignore"):
        digest.update(np.ascontiguousarray(voxels, dtype=np.float32).tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=8)
def npz_shape(path: str, member: str) -> tuple[int, ...]:
    """Shape of an array in an npz file, from its header: nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                return tuple(np.lib.format.read_array_header_1_0(stream)[0])
            return tuple(np.lib.format.read_array_header_2_0(stream)[0])
    except (*_BROKEN, zipfile.BadZipFile) as error:
        raise UnreadableVolumeError(
            f"array {member} of the npz file cannot be read ({type(error).__name__})"
        ) from error


def release() -> None:
    """Forget what is kept in memory between reads."""
    dicom.release()
    _npz_member.cache_clear()
    npz_shape.cache_clear()


def _load(address: str) -> nib.filebasedimages.FileBasedImage:
    try:
        return nib.load(address)
    except FileNotFoundError as error:
        raise UnreadableVolumeError("the file does not exist") from error
    except PermissionError as error:
        raise UnreadableVolumeError("the file may not be read: permission denied") from error
    except _BROKEN as error:
        ending = Path(address).suffix.lower()
        if ending in _FOREIGN:
            raise UnreadableVolumeError(
                f"a {ending} file: expected NIfTI (.nii, .nii.gz); convert it"
            ) from error
        raise UnreadableVolumeError(
            f"not a readable NIfTI file, perhaps cut short or corrupt ({type(error).__name__})"
        ) from error


def _unit_mm(image: nib.filebasedimages.FileBasedImage) -> float:
    """Millimetres per unit of length of the file; one where it names none."""
    try:
        return _UNITS_MM.get(image.header.get_xyzt_units()[0], 1.0)
    except (AttributeError, KeyError):  # no NIfTI header, or a code that stands for nothing
        return 1.0


def _channels(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[3:], dtype=np.int64))


def _volume_shape(shape: tuple[int, ...], channel: int) -> tuple[int, int, int]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4):
        raise UnreadableVolumeError(f"expected 3 axes or 3 and channels, got shape {shape}")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS or min(shape) < 1:
        raise UnreadableVolumeError(f"the header claims the impossible shape {shape}")
    if len(shape) == 4 and channel >= shape[3]:
        raise UnreadableVolumeError(f"channel {channel} asked for, but there are {shape[3]}")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _npz_volume(address: str) -> np.ndarray:
    path, member, index = address.rsplit(_SEPARATOR, 2)
    return np.asarray(_npz_member(path, member)[int(index)])


@lru_cache(maxsize=1)
def _npz_member(path: str, member: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[member])
    except (*_BROKEN, zipfile.BadZipFile) as error:
        raise UnreadableVolumeError(
            f"array {member} of the npz file cannot be read ({type(error).__name__})"
        ) from error
