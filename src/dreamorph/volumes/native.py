"""Between the common grid and a case's own label geometry, where millimetres are judged."""

import contextlib
import gzip
import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform

from dreamorph.errors import CohortError, DreamorphError, StaleError
from dreamorph.fingerprint import fingerprint
from dreamorph.volumes import io

_ALIGNED = 2  # NIfTI code: coordinates aligned to those of another scan


def read_label(
    address: str, label_values: dict[int, int], content: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A case's original label map (D, H, W) uint8 with the cohort's labels, and its affine (4, 4).

    `label_values` is that of `CohortFacts`: value in the file -> label. The array stays in the
    stored orientation. Raises UnreadableVolumeError, and StaleError where the file no longer holds
    `content`, what ingest noted of it (`label_content`).
    """
    stored = io.read_voxels(address)
    if content is not None and content != label_content(stored, io.read_header(address).affine):
        raise StaleError(
            "the label file of a test case has changed since it was read: run all steps again"
            " (what is unchanged is not done again)"
        )
    voxels = np.rint(stored)
    result = np.zeros(voxels.shape, dtype=np.uint8)
    for value, index in label_values.items():
        result[voxels == value] = index
    return result, io.read_header(address).affine


def label_content(voxels: np.ndarray, affine: np.ndarray) -> str:
    """What a label file holds, as ingest notes it: values and place."""
    return fingerprint(io.voxel_digest(voxels), affine)


def native_labels(
    probabilities: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    native_affine: np.ndarray,
) -> np.ndarray:
    """The most probable of C channels (C, D, H, W) at every voxel of a native geometry.

    Trilinear; beyond the common grid its nearest value counts. Of equal channels the first one
    counts. A channel is resampled where it may be the most probable one and nowhere else, one at a
    time: native volumes are large, and labels are many and small.

    Args:
        probabilities: not negative; they need not sum to 1.
        affine, native_affine: voxels of the two grids to the same world (mm).
        shape: of the native volume.

    Returns `shape`, uint8 where that holds the channels. Raises CohortError for another shape.
    """
    if probabilities.ndim != 4:
        raise CohortError(f"expected a volume (C, D, H, W), got shape {probabilities.shape}")
    step = np.linalg.inv(affine) @ native_affine
    kind = np.min_scalar_type(max(len(probabilities) - 1, 0))
    labels = np.zeros(shape, dtype=kind)
    best = np.full(shape, -np.inf, dtype=np.float32)
    # the most probable channel has at least the mean of all, wherever between voxels that is
    least = 0.99 * float(np.nan_to_num(probabilities.mean(axis=0, dtype=np.float64)).min())
    for channel, values in enumerate(probabilities):
        box = _box(~(values < least), step, shape)
        found = affine_transform(
            values.astype(np.float32, copy=False),
            step[:3, :3],
            step[:3, :3] @ [part.start for part in box] + step[:3, 3],
            output_shape=tuple(part.stop - part.start for part in box),
            output=np.float32,
            order=1,
            mode="nearest",
        )
        wins = found > best[box]
        labels[box][wins] = channel
        best[box][wins] = found[wins]
    return labels


def _box(
    where: np.ndarray, step: np.ndarray, shape: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """Native voxels that some voxel of a mask (D, H, W) has a say in, as a box around them.

    `step` (4, 4) maps native voxels to the mask's. What lies at the mask's edge goes on beyond it.
    """
    ends = []
    for axis, count in enumerate(where.shape):
        held = np.flatnonzero(where.any(axis=tuple(other for other in range(3) if other != axis)))
        if not held.size:
            return (slice(0, 0),) * 3
        far = float(np.abs(step[axis, :3]) @ shape + abs(step[axis, 3]) + count)
        low = -far if held[0] == 0 else held[0] - 1
        high = far if held[-1] == count - 1 else held[-1] + 1
        ends.append((low, high))
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
    native = np.linalg.inv(step) @ np.vstack([corners, np.ones(corners.shape[1])])
    first = np.clip(np.floor(native[:3].min(axis=1)), 0, shape).astype(int)
    last = np.clip(np.ceil(native[:3].max(axis=1)) + 1, first, shape).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return x, y, z


def save_nifti(
    path: Path, array: np.ndarray, affine: np.ndarray, intent: str | None = None
) -> None:
    """Write a volume (D, H, W) as .nii or .nii.gz, whole or not at all.

    The header says millimetres, aligned coordinates in both sform and qform, the intent if one is
    given (`vector` for fields (D, H, W, 1, 3)), and nothing else: no description, no date, so that
    equal volumes give equal bytes. Raises DreamorphError if the disk does not take it.
    """
    array = np.asarray(array)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype in (np.float16, np.float64):
        array = array.astype(np.float32)
    elif array.dtype in (np.int64, np.uint64):
        array = array.astype(np.int32)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=_ALIGNED)
    image.set_qform(affine, code=_ALIGNED)
    image.header.set_xyzt_units("mm")
    if intent is not None:
        image.header.set_intent(intent)
    data = image.to_bytes()
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=4, mtime=0)
    _write_atomically(path, data)


def _write_atomically(path: Path, data: bytes) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise DreamorphError(
            f"{path.name} cannot be written to {path.parent}: {error.strerror or error}"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
