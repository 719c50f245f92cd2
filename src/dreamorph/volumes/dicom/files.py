"""Which files are DICOM, and reading them without a word of what they say."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamorph.volumes.files import files_in
from dreamorph.volumes.header import UnreadableVolumeError

_PREAMBLE = 128
_LIBRARIES = "pydicom", "highdicom"


def is_dicom(file: Path) -> bool:
    """Whether a file carries DICOM's mark, whatever it is called."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as stream:
            stream.seek(_PREAMBLE)
            return stream.read(4) == b"DICM"
    except OSError:
        return False


def dicom_files(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """DICOM files in a folder, hidden ones left out."""
    return (file for file in files_in(folder, recursive) if is_dicom(file))


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the libraries from repeating what files say, in warnings or in log records."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def refused(why: str) -> Iterator[None]:
    """Turn whatever pydicom and highdicom raise about a file into one sentence of ours.

    They raise errors of many types, and the texts may repeat what the file says.
    """
    with quietly():
        try:
            yield
        except (UnreadableVolumeError, MemoryError):
            raise
        except AttributeError as error:
            raise UnreadableVolumeError(
                f"{why}: {error.name or 'an attribute'} is missing"
            ) from None
        except Exception as error:
            raise UnreadableVolumeError(f"{why} ({type(error).__name__})") from None
