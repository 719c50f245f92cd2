"""CSV manifest: case, subject, image, label, class, split. It overrides every other layout.

`case` and `image` are required, the rest may be left out or left empty. Relative paths are
relative to the manifest. A row without a label is an unlabelled case; a label that is named but
does not exist is not. The column split, if any cell of it is filled, must be filled for all rows
with train, unlabelled, test or val; so must the column subject, if any cell of it is filled.
Columns of other names are ignored and never stored, unless they look like one of these, misspelt.
"""

import csv
import difflib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.layouts.common import LayoutReader
from dreamorph.volumes.records import CaseFiles, Layout, LayoutFacts

logger = logging.getLogger(__name__)

COLUMNS = ("case", "subject", "image", "label", "class", "split")
_SPLITS = ("train", "unlabelled", "test")


def read(path: Path, config: CohortConfig) -> Layout:
    """List the cases of a manifest, or of the manifest.csv in a folder."""
    file = path / "manifest.csv" if path.is_dir() else path
    rows = _rows(file)
    for column in ("split", "subject"):
        filled = sum(bool(row[column]) for row in rows)
        if filled not in (0, len(rows)):
            raise CohortError(
                f"{file}: column {column} is filled in {filled} of {len(rows)} rows; fill all or"
                " none"
            )
    _check_classes(file, sorted({row["class"] for row in rows}))
    cases = [
        CaseFiles(
            case=row["case"],
            subject=row["subject"] or None,
            image=_existing(file, row["image"]),
            label=_existing(file, row["label"]),
            cls=row["class"] or None,
            split=_split(file, line, row["split"], config) if row["split"] else None,
            label_expected="yes" if row["label"] else "no",
        )
        for line, row in enumerate(rows, start=2)
    ]
    return Layout(cases, LayoutFacts(layout="manifest"))


def recognises(path: Path) -> bool:
    """A .csv file, or a folder with manifest.csv."""
    return (path.is_file() and path.suffix.lower() == ".csv") or (path / "manifest.csv").is_file()


def _rows(file: Path) -> list[dict[str, str]]:
    lines = _lines(file)
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        _check_columns(file, [name.strip().lower() for name in reader.fieldnames or []])
        found = list(reader)
    except csv.Error as error:
        raise CohortError(
            f"manifest {file} is no CSV ({error}): expected every quote to be closed in its line"
        ) from error
    rows = []
    for line, raw in enumerate(found, start=2):
        if None in raw:
            raise CohortError(
                f"manifest {file}, line {line}: more cells than columns; a cell that holds"
                f" {delimiter!r} goes into quotes"
            )
        named = {str(key).strip().lower(): (value or "") for key, value in raw.items() if key}
        row = {column: str(named.get(column, "")).strip() for column in COLUMNS}
        if not any(row.values()):
            continue
        if not row["case"]:
            raise CohortError(f"manifest {file}, line {line}: the column case is empty")
        rows.append(row)
    return rows


def _lines(file: Path) -> list[str]:
    """Of the file, its columns first."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CohortError(
            f"manifest {file} is not written in UTF-8: save it as 'CSV UTF-8', or without letters"
            " beyond ASCII"
        ) from error
    except OSError as error:
        raise CohortError(f"manifest {file} cannot be read: {error}") from error
    if lines and lines[0].strip().lower().startswith("sep="):  # a hint for spreadsheets
        lines = lines[1:]
    if not lines:
        raise CohortError(f"manifest {file} is empty; expected the columns {', '.join(COLUMNS)}")
    return lines


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    ignored = [name for name in columns if name not in COLUMNS]
    for name in ignored:
        meant = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
        if meant:
            raise CohortError(
                f"manifest {file}: there is a column {name!r}, did you mean {meant[0]!r}? Rename"
                " it, or leave it out"
            )
    for name in missing:
        if name in ("case", "image"):
            raise CohortError(
                f"manifest {file}: expected the columns {', '.join(COLUMNS)}; {name} is missing"
            )
    if ignored:
        logger.info("manifest: %d columns of other names are ignored", len(ignored))


def _check_classes(file: Path, classes: Sequence[str]) -> None:
    """Two spellings of one class would be learned as two."""
    spelt: dict[str, str] = {}
    for name in classes:
        other = spelt.setdefault(name.casefold(), name)
        if other != name:
            raise CohortError(
                f"manifest {file}: the classes {other!r} and {name!r} differ in capitals only;"
                " write them alike, or give them names that differ"
            )


def _existing(manifest: Path, cell: str) -> str | None:
    """The file of a cell, which Windows may have written; None where there is none."""
    for written in dict.fromkeys((cell, cell.replace("\\", "/"))):
        with suppress(RuntimeError):  # the home of a user whom this machine does not know
            file = manifest.parent / Path(written).expanduser()
            if written and file.is_file():
                return str(file)
    return None


def _split(manifest: Path, line: int, cell: str, config: CohortConfig) -> str:
    value = cell.lower()
    if value in ("val", "validation", "valid"):
        return config.validation_split
    value = "unlabelled" if value == "unlabeled" else value
    if value not in _SPLITS:
        raise CohortError(
            f"manifest {manifest}, line {line}: expected split {', '.join(_SPLITS)} or val, got"
            f" {cell!r}"
        )
    return value


READER = LayoutReader(
    "manifest", "a CSV with columns case, subject, image, label, class, split", recognises, read
)
