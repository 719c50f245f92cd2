"""What a research team may say about its cohort and how it is split."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from dreamorph.config import Config

_MAX_LABELS = 255

LayoutName = Literal["auto", "msd", "nnunet", "folder", "medmnist", "manifest", "dicom"]


class SubjectRule(Config):
    """How the subject is read from a case's name: subject = group 1 of `regex`.

    With `cases_per_subject` = k > 1 the group must be a whole number g and subject = ceil(g / k):
    for two sides of one head stored as consecutive numbers, k = 2. Without a regex a BIDS `sub-XX`
    is the subject where there is one, otherwise every case is a subject of its own. The `subject`
    column of a manifest overrides the rule.
    """

    regex: str | None = None
    cases_per_subject: int = Field(default=1, ge=1)

    @field_validator("regex")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if _check_pattern(value).groups < 1:
            raise ValueError(f"expected a group in parentheses for the subject, got {value!r}")
        return value

    @model_validator(mode="after")
    def _number_needs_regex(self) -> "SubjectRule":
        if self.cases_per_subject > 1 and self.regex is None:
            raise ValueError("cases_per_subject > 1 needs a regex whose group 1 is a number")
        return self


class CohortConfig(Config):
    """Where the cohort lies and how its volumes are brought onto one grid."""

    path: Path | None = None
    """Folder, `.npz` or manifest `.csv`; None leaves the choice of a default to the caller."""
    layout: LayoutName = "auto"
    manifest: Path | None = None
    """CSV with columns case, image and optionally subject, label, class, split; overrides all."""
    modality: Literal["auto", "MR", "CT", "shape"] = "auto"
    channel: int = Field(default=0, ge=0)
    """The one channel that is read of multichannel images; the others are ignored."""
    subject: SubjectRule = SubjectRule()
    case_names: Literal["auto", "keep", "pseudonym"] = "auto"
    label_names: dict[int, str] | None = None
    """Label value in the files -> name, without background 0; overrides the data set's own."""
    structures: dict[str, str] | None = None
    """DICOM: name of each label -> regular expression for the names of its segments (SEG) or
    regions (RTSTRUCT), which it must match as a whole, capitals aside; later ones cover earlier
    ones. None: those that more than half of the labelled patients have, which must not overlap."""
    series_description: str | None = None
    """DICOM: regular expression that a SeriesDescription must contain, capitals aside."""
    class_names: dict[str, str] | None = None
    """Class in the files -> name to show, for data sets that only number their classes."""
    image_without_label: Literal["auto", "unlabelled", "quarantine"] = "auto"
    """'auto': quarantined where the layout declares a training set, else an unlabelled case."""
    validation_split: Literal["unlabelled", "train"] = "unlabelled"
    """What the validation part of a cohort with its own split serves as."""
    foreign_extent_factor: float = Field(default=3.0, gt=1)
    """A volume whose extent (mm, any axis) is this many times off the median is quarantined."""
    foreign_spacing_factor: float = Field(default=6.0, gt=1)

    spacing_mm: tuple[float, float, float] | None = None
    """Spacing of the common grid (R, A, S); None takes the cohort's median."""
    grid_multiple: int = Field(default=8, ge=1)
    max_grid_voxels: int = Field(default=128**3, ge=8**3)
    """A grid from the median spacing is coarsened isotropically until it has at most so many."""
    mr_percentiles: tuple[float, float] = (0.5, 99.5)
    ct_window_hu: tuple[float, float] = (-200.0, 400.0)
    """Fat, soft tissue and the onset of bone; scaled to 0..1."""

    @field_validator("path", "manifest", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise ValueError("expected a file or folder, or null")
        return value

    @field_validator("structures")
    @classmethod
    def _patterns(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None and not 1 <= len(value) <= _MAX_LABELS:
            raise ValueError(f"expected 1 to {_MAX_LABELS} labels, got {len(value)}")
        for pattern in (value or {}).values():
            _check_pattern(pattern)
        return value

    @field_validator("series_description")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is not None:
            _check_pattern(value)
        return value

    @field_validator("spacing_mm")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError(f"expected three positive millimetres, got {value}")
        return value

    @field_validator("mr_percentiles", "ct_window_hu")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError(f"expected lower < upper, got {value}")
        return value

    @field_validator("mr_percentiles")
    @classmethod
    def _percent(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] < 0 or value[1] > 100:
            raise ValueError(f"expected percentiles within 0..100, got {value}")
        return value

    @model_validator(mode="after")
    def _grid_fits(self) -> "CohortConfig":
        if self.grid_multiple**3 > self.max_grid_voxels:
            raise ValueError(
                f"no grid is as small as max_grid_voxels = {self.max_grid_voxels}: with"
                f" grid_multiple = {self.grid_multiple} the smallest has {self.grid_multiple**3}"
            )
        return self


class SplitConfig(Config):
    """How many subjects go where. None adapts to the cohort, so the defaults fit any size.

    A cohort with a split of its own (manifest column, MedMNIST) keeps it; the numbers then draw
    that many subjects from each part, and None takes the whole part.
    """

    train_subjects: int | None = Field(default=None, ge=1)
    """None: what `test_subjects` leaves, or `train_fraction` of the subjects where that is None."""
    unlabelled_subjects: int | None = Field(default=None, ge=0)
    """None: all subjects without a label. More than those: labels of further ones are withheld."""
    test_subjects: int | None = Field(default=None, ge=1)
    """None: all the labelled subjects that are left."""
    train_fraction: float = Field(default=0.5, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)


def _check_pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
