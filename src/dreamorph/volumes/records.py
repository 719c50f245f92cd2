"""The records that travel from the files to the cohort."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from dreamorph.config import Config

Modality = Literal["MR", "CT", "shape"]
Expectation = Literal["yes", "open", "no"]
CASE_COLUMNS = (
    "case",
    "subject",
    "image",
    "label",
    "class",
    "split",
    "label_expected",
    "listed",
    "fault",
)
QUARANTINE_COLUMNS = ("case", "status", "reason", "detail")


@dataclass(frozen=True)
class CaseFiles:
    """One case as a layout reader found it. `case` is the name in the files: still private.

    `image` and `label` are addresses (see `volumes.io`), None where there is no such file.
    `label_expected` is 'yes' where the layout promised a label, 'no' where it declared the case
    unlabelled, and 'open' where it says neither; `listed` is False for a file that lies in the
    folder but not in the data set's own list. `fault` says in one sentence, without a name, why the
    case cannot be used, where the reader knows.
    """

    case: str
    subject: str | None
    image: str | None
    label: str | None
    cls: str | None = None
    split: str | None = None
    label_expected: Expectation = "open"
    listed: bool = True
    fault: str | None = None


class LayoutFacts(Config):
    """What the layout says about the whole cohort before any voxel is read."""

    layout: str
    modality: Modality | None = None
    label_names: dict[int, str] = Field(default_factory=dict)
    names_are_codes: bool = False
    subjects_are_private: bool = False
    """Whether subjects are patients' own numbers, which are never published."""
    data_set: str = ""
    """The data set's own name, of its description and its folder: no person's. '' if unknown."""


@dataclass(frozen=True)
class Layout:
    """A reader's result."""

    cases: list[CaseFiles]
    facts: LayoutFacts


@dataclass(frozen=True)
class Scan:
    """The files of a cohort under published names.

    `cases` has the columns CASE_COLUMNS and `keys` the columns case, name, image, label. Both hold
    file paths and, in `keys`, the original names: they stay on the local disk.
    """

    cases: pd.DataFrame
    facts: LayoutFacts
    keys: pd.DataFrame


class CohortFacts(Config):
    """What is true of the whole cohort after validation; survives JSON."""

    layout: str
    modality: Modality
    label_values: dict[int, int]
    """Value in the label files -> label index 1..K in the cohort."""
    label_names: dict[int, str]
    """Label index 1..K -> name."""
    class_names: list[str]


@dataclass(frozen=True)
class Validation:
    """What passed and what was set aside.

    `good`: columns case, subject, image, label, class, split, content, shape, spacing_mm (local:
    it holds paths). `quarantine`: columns QUARANTINE_COLUMNS, without paths or original names.
    """

    good: pd.DataFrame
    quarantine: pd.DataFrame
    facts: CohortFacts


def frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Table of objects in which a missing value stays None (a str column would make it NaN)."""
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows with None for every missing value, also after a way through CSV."""
    return [
        {str(key): None if _missing(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and bool(np.isnan(value)))
