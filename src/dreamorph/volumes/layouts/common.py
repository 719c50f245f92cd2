"""What the layout readers share."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.files import files_in
from dreamorph.volumes.io import ENDINGS, stem
from dreamorph.volumes.records import Layout, Modality

#: Beginning of a name after BIDS: subject, and session where there is one.
BIDS = re.compile(r"^(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?(?:_|$)")


@dataclass(frozen=True)
class LayoutReader:
    """A layout under its short name.

    `recognises(path)` looks at names only; `read(path, config)` lists the cases.
    """

    name: str
    description: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, CohortConfig], Layout]


def nifti_files(folder: Path, recursive: bool = False) -> list[Path]:
    """NIfTI files in a folder in natural order, hidden ones left out; [] if there is no folder."""
    if not folder.is_dir():
        return []
    files = (f for f in files_in(folder, recursive) if f.name.lower().endswith(ENDINGS))
    return sorted(files, key=natural_key)


def one_a_case(folder: Path) -> list[Path]:
    """As `nifti_files`. Raises CohortError where a case is there twice, packed and not."""
    files = nifti_files(folder)
    seen = Counter(stem(file) for file in files)
    twice = sum(count > 1 for count in seen.values())
    if twice:
        raise CohortError(
            f"{folder}: {twice} cases are there as .nii and as .nii.gz; keep one file of each"
        )
    return files


def natural_key(value: object) -> list[tuple[int, int, str]]:
    """Sort key that puts case_2 before case_10."""
    parts = re.split(r"(\d+)", str(value))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises CohortError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CohortError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CohortError(f"{file}: expected a JSON object, got a {type(content).__name__}")
    return content


def data_set_name(description: dict[str, Any], path: Path) -> str:
    """What a prepared data set is called, in its description and as a folder.

    Not to be asked of a plain folder of scans, which may be called after whom it shows.
    """
    return f"{description.get('name', '')} {path.resolve().name}"


def modality_of(text: object) -> Modality | None:
    """MR or CT from the free text of a data set's description; None where it says neither."""
    words = re.findall(r"[A-Z0-9]+", str(text).upper())
    if any(word in {"CT", "CBCT", "HU"} for word in words):
        return "CT"
    if any(re.fullmatch(r"MRI?|MRT|T[12]W?|T1C[E]?|FLAIR|ADC|DWI|PD", word) for word in words):
        return "MR"
    return None
