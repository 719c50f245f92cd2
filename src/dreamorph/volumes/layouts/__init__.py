"""Registry of layouts: short name -> reader. The order is the order of recognition."""

from pathlib import Path

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.layouts import dicom, folder, manifest, medmnist, msd, nnunet
from dreamorph.volumes.layouts.common import LayoutReader
from dreamorph.volumes.records import Layout

_READERS = manifest, medmnist, nnunet, msd, folder, dicom
LAYOUTS: dict[str, LayoutReader] = {layout.READER.name: layout.READER for layout in _READERS}


def read_layout(config: CohortConfig) -> Layout:
    """List the cases of the cohort `config` names. Reads no voxel.

    Raises CohortError if the folder is missing or empty, or its layout is not recognised.
    """
    if config.manifest is not None:
        return LAYOUTS["manifest"].read(config.manifest.expanduser().absolute(), config)
    if config.path is None:
        raise CohortError("cohort.path is not set: give the folder, .npz or .csv of your cohort")
    path = config.path.expanduser().absolute()  # later steps may run from elsewhere
    if not path.exists():
        raise CohortError(f"cohort.path: '{path}' does not exist")
    try:
        reader = LAYOUTS[config.layout] if config.layout != "auto" else _recognise(path)
        layout = reader.read(path, config)
    except OSError as error:
        raise CohortError(f"cohort.path: '{path}' cannot be listed: {error.strerror}") from error
    if not layout.cases:
        raise CohortError(f"cohort.path: '{path}', read as '{reader.name}', holds no volume")
    return layout


def _recognise(path: Path) -> LayoutReader:
    for reader in LAYOUTS.values():
        if reader.recognises(path):
            if reader is folder.READER and dicom.recognises(path):
                raise CohortError(
                    f"cohort.path: '{path}' holds NIfTI and DICOM files; say which are meant:"
                    " cohort.layout=folder or dicom"
                )
            return reader
    known = "; ".join(f"{reader.name}: {reader.description}" for reader in LAYOUTS.values())
    raise CohortError(f"cohort.path: '{path}' {_what_it_is(path)}; recognised layouts are {known}")


def _what_it_is(path: Path) -> str:
    if path.is_file():
        return "is a file of unknown kind"
    names = [entry.name for entry in path.iterdir()]
    if not names:
        return "is an empty folder"
    if any(name.lower().endswith(".dcm") for name in names):
        return "holds .dcm files that do not bear DICOM's mark (DICM after 128 bytes)"
    return "holds no NIfTI volume (.nii or .nii.gz) and no DICOM file"
