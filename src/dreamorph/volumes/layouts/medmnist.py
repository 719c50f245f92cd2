"""MedMNIST 3D npz: {train,val,test}_images (N, D, H, W) and {train,val,test}_labels (N, 1).

The file's own split is kept: it was made by patient, and the file names no patients, so that no
other split could be checked. `val` serves as the unlabelled part by default, because its patients
are surely others than those of `train`. The volumes stay in the file. They carry neither spacing
nor orientation: a voxel counts as 1 mm.
"""

import zipfile
from pathlib import Path

import numpy as np

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.io import npz_address, npz_shape
from dreamorph.volumes.layouts.common import LayoutReader
from dreamorph.volumes.records import CaseFiles, Layout, LayoutFacts

_PARTS = ("train", "val", "test")


def read(path: Path, config: CohortConfig) -> Layout:
    """List the volumes of a MedMNIST 3D file."""
    file = path if path.is_file() else _npz_in(path)
    if file is None:
        raise CohortError(f"cohort.path: {path}: expected one MedMNIST .npz file")
    cases: list[CaseFiles] = []
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [f"{p}_{k}" for p in _PARTS for k in ("images", "labels")]
            missing = [name for name in missing if name not in archive.files]
            if missing:
                raise CohortError(f"{file}: expected a MedMNIST file, {missing[0]} is missing")
            labels = {part: np.asarray(archive[f"{part}_labels"]) for part in _PARTS}
        shapes = {part: npz_shape(str(file), f"{part}_images") for part in _PARTS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CohortError(f"{file} is not a readable npz file ({type(error).__name__})") from error
    for part in _PARTS:
        cases += _part(file, part, labels[part], shapes[part], config)
    return Layout(cases, LayoutFacts(layout="medmnist", names_are_codes=True))


def recognises(path: Path) -> bool:
    """An npz file, or a folder whose only npz file holds the volumes."""
    return (path.is_file() and path.suffix == ".npz") or (
        path.is_dir() and _npz_in(path) is not None
    )


def _npz_in(path: Path) -> Path | None:
    files = sorted(path.glob("*.npz"))
    return files[0] if len(files) == 1 else None


def _part(
    file: Path, part: str, labels: np.ndarray, shape: tuple[int, ...], config: CohortConfig
) -> list[CaseFiles]:
    if len(shape) != 4 or shape[-1] == 3:
        raise CohortError(
            f"{file}: expected {part}_images of shape (N, D, H, W), got {shape}: only the 3D sets"
            " of MedMNIST are read"
        )
    if labels.size != shape[0]:
        raise CohortError(
            f"{file}: expected one class for each of {shape[0]} volumes in {part}_labels, got"
            f" shape {labels.shape}"
        )
    try:
        classes = [str(int(value)) for value in labels.ravel()]
    except (TypeError, ValueError, OverflowError) as error:
        raise CohortError(
            f"{file}: expected whole numbers in {part}_labels, got {labels.dtype} ({error})"
        ) from error
    split = {"val": config.validation_split}.get(part, part)
    return [
        CaseFiles(
            case=f"{part}_{index:04d}",
            subject=None,
            image=npz_address(file, f"{part}_images", index),
            label=None,
            cls=name,
            split=split,
        )
        for index, name in enumerate(classes)
    ]


READER = LayoutReader("medmnist", "a MedMNIST 3D .npz file", recognises, read)
