"""Which files are DICOM: by the mark that they carry, since their names need not say so."""

from collections.abc import Iterator
from pathlib import Path

_PREAMBLE = 128


def is_dicom(file: Path) -> bool:
    """Whether a file carries DICOM's mark."""
    try:
        with file.open("rb") as stream:
            stream.seek(_PREAMBLE)
            return stream.read(4) == b"DICM"
    except OSError:
        return False


def dicom_files(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """DICOM files in a folder, hidden ones left out."""
    for file in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.is_file() and is_dicom(file):
            yield file
