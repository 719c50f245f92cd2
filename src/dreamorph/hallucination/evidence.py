"""What the checks look at, and nothing else: filled by the pipeline, read by the checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import pandas as pd
import torch

from dreamorph.errors import DreamError
from dreamorph.hallucination.jacobian import Folding, measure_foldings
from dreamorph.spatial import SpatialTransform

PAIR_COLUMNS = ("fixed_subject", "moving_subject", "log_jacobian_min", "log_jacobian_max")
LINEAGE_COLUMNS = ("role", "case", "subject", "fingerprint", "signature")
CASE_COLUMNS = ("arm", "seed", "case", "subject", "label")
REMOVAL_COLUMNS = (
    "arm",
    "seed",
    "case",
    "subject",
    "label",
    "structure",
    "condition",
    "structure_ml",
    "painted_ml",
    "false_positive_ml",
    "components",
    "dice",
)


class RecipeLike(Protocol):
    """What a dream says about where it comes from."""

    @property
    def dream(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def source_subject(self) -> str: ...
    @property
    def cls(self) -> str | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def prior(self) -> str: ...
    @property
    def scale(self) -> float: ...
    @property
    def coefficients(self) -> tuple[float, ...]: ...


class DreamsLike(Protocol):
    """A pool of dreams: tensors `(n, 1, *shape)`, one transform and one recipe per dream."""

    @property
    def images(self) -> torch.Tensor: ...
    @property
    def labels(self) -> torch.Tensor: ...
    @property
    def masks(self) -> torch.Tensor: ...
    @property
    def transforms(self) -> SpatialTransform: ...
    @property
    def recipes(self) -> Sequence[RecipeLike]: ...
    @property
    def source_index(self) -> torch.Tensor: ...


@dataclass(frozen=True)
class Reals:
    """The real labelled training cases that dreams are made of, in the order of `source_index`.

    Attributes:
        images: `(N, 1, *shape)` float.
        labels: `(N, 1, *shape)` uint8; all zero where the cohort has no labels.
        masks: `(N, 1, *shape)` bool, False in padding.
        cases, subjects, classes: N names each; a class may be None.
        spacing_mm: voxel size.
        n_labels: labels without background; 0 for a cohort without labels.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    cases: list[str]
    subjects: list[str]
    classes: list[str | None]
    spacing_mm: tuple[float, ...]
    n_labels: int

    def __post_init__(self) -> None:
        sizes = {
            len(part) for part in (self.images, self.labels, self.masks, self.cases, self.subjects)
        } | {len(self.classes)}
        if len(sizes) != 1:
            raise DreamError(
                f"real cases: expected one row per case in every part, got sizes {sorted(sizes)}"
            )


@dataclass(frozen=True)
class DreamEvidence:
    """What the checks of the stage `dreams` need.

    Attributes:
        reals: the cases the dreams come from.
        dreams: the accepted dreams, or a sample of them; `source_index` counts rows of `reals`.
        pairs: one row per registered real pair, columns PAIR_COLUMNS (`pair_jacobians`), and where
            labels are known `dice_affine`, their overlap after the affine step.
        lineage: one row per role and case, columns LINEAGE_COLUMNS (`lineage_rows`), with the roles
            `registration`, `prior`, `training` and `test`, and others at will.
        prior_fingerprint: of the prior every recipe must name; None accepts any.
        rejected: how many dreams the gate kept out, by reason.
    """

    reals: Reals
    dreams: DreamsLike
    pairs: pd.DataFrame
    lineage: pd.DataFrame
    prior_fingerprint: str | None = None
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def n_labels(self) -> int:
        """Labels without background."""
        return self.reals.n_labels

    @property
    def source_subjects(self) -> list[str]:
        """Subject of each dream's source, looked up by row, not taken from the recipe."""
        return [self.reals.subjects[int(i)] for i in self.dreams.source_index]

    @cached_property
    def foldings(self) -> list[Folding]:
        """Folds and Jacobian extremes of each dream, measured once for all checks."""
        return measure_foldings(self.dreams.transforms, self.dreams.masks)

    @property
    def rejection_note(self) -> str:
        """How many the gate kept out, in words; '' where none."""
        total = sum(self.rejected.values())
        if not total:
            return ""
        parts = ", ".join(f"{reason} {count}" for reason, count in sorted(self.rejected.items()))
        return f"the gate kept {total} dreams out ({parts})"


@dataclass(frozen=True)
class NetEvidence:
    """What the checks of the stage `nets` need.

    Attributes:
        cases: test results, columns CASE_COLUMNS and the metric: one row per arm, seed, case and
            label. NaN fails the checks, so labels rightly absent are scored before
            (`evaluation.with_absent_labels`).
        baseline: the plain baseline on the same cases: case, subject, label and the metric.
        removal: what `measure_removal` returned for every label and every training of every arm of
            `judged_arms`; None fails, and so does one that is missing.
        metric: column to compare, higher is better (dice, balanced_accuracy).
        arm: the arm that is judged; `random_arm`: random warps.
        judged_arms: whose networks are held against the plain baseline and were shown images
            without the structure: the judged arm, and the one whose network is to be used.
        n_labels: labels without background.
    """

    cases: pd.DataFrame
    baseline: pd.DataFrame
    removal: pd.DataFrame | None
    n_labels: int
    metric: str = "dice"
    arm: str = "dream"
    random_arm: str = "elastic"
    judged_arms: tuple[str, ...] = ("dream",)
