"""What the report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from dreamorph.dreaming import Dreams
from dreamorph.prior import DeformationPrior
from dreamorph.registration.groupwise import Group
from dreamorph.spatial import SpatialTransform
from dreamorph.volumes.cohort import Cohort

Task = Literal["segmentation", "classification"]
PairExample = tuple[int, int, SpatialTransform]

#: Networks that are trained; every other arm of the case table is a plain baseline.
NETWORK_ARMS = ("none", "classic", "elastic", "dream", "learned")
DREAM, RANDOM = "dream", "elastic"
#: Networks averaged with a plain method: neither the one nor the other.
AVERAGED_ARMS = tuple(f"{arm}+atlas" for arm in NETWORK_ARMS)


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """Everything a run knows about itself; whatever is empty or None, the report says so.

    Attributes:
        study: name of the study.
        simulated: whether the patients are; said wherever the name appears.
        task: what the networks do.
        created: date and time, as it shall be printed.
        version, git_commit: of this package.
        cohort: all preprocessed volumes.
        quarantine: columns case, status, reason, detail.
        pairs: `registration.groupwise.quality_table`, with columns fixed_case, moving_case and, if
            known, similarity_affine and dice_affine.
        common: the prior's members in the common space, in the prior's order. None where the pairs
            were registered on the cohort's own grid.
        pair_examples: row of the fixed and of the moving volume, and the map between them; rows of
            `common`, or of the cohort where that is None.
        prior: what was learned; its members are cases of the cohort.
        dreams: accepted ones to show, a few dozen.
        dream_table: `dreaming.dreams.recipes_to_table` with columns accepted (bool) and reason.
        cases: as `evaluation.evaluate_segmentation` or `evaluate_classification` gives it, for all
            arms and plain baselines.
        comparisons: `evaluation.compare_arms`, for one metric or several.
        history: columns arm, seed, step, metric, value.
        tuning: columns arm, energy, fold, subject, label, score: held-out training subjects.
        choice: what followed from them, with the keys elastic_energy, learned_energy,
            recommended_arm, choice_reason and counted_labels (names; None for all).
        checks: `hallucination.result.to_table`.
        verdict: pass, fail or not_assessable.
        recovery: of a simulated truth. Key `registration` holds the fields of
            `simulation.RegistrationError` as sequences, key `modes` those of
            `simulation.ModeRecovery`; either may be the record itself.
        parameters: of the run, nested.
        earlier: groups of them whose steps were left to earlier runs.
        predictions: label maps `(D, H, W)` of the dream arm's first training, on the common grid,
            by case, from which the worst cases are drawn.
    """

    study: str
    simulated: bool
    task: Task
    created: str
    version: str
    git_commit: str
    cohort: Cohort
    quarantine: pd.DataFrame
    pairs: pd.DataFrame
    common: Group | None
    pair_examples: Sequence[PairExample]
    prior: DeformationPrior | None
    dreams: Dreams | None
    dream_table: pd.DataFrame
    cases: pd.DataFrame
    comparisons: pd.DataFrame
    history: pd.DataFrame
    checks: pd.DataFrame
    verdict: str
    tuning: pd.DataFrame = field(default_factory=pd.DataFrame)
    choice: Mapping[str, Any] = field(default_factory=dict)
    recovery: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    earlier: Sequence[str] = ()
    predictions: Mapping[str, np.ndarray | torch.Tensor] | None = None

    @property
    def title(self) -> str:
        """The study's name, never without saying that its patients are simulated."""
        if self.simulated and "simulated" not in self.study.lower():
            return f"{self.study} (simulated patients)"
        return self.study

    @property
    def kind(self) -> str:
        """What volumes that are no dreams are called."""
        return "simulated" if self.simulated else "real"

    @property
    def arms(self) -> list[str]:
        """Arms of the case table: networks in their order, averages, then plain baselines."""
        if self.cases.empty or "arm" not in self.cases:
            return []
        present = [str(arm) for arm in self.cases["arm"].unique()]
        known = [arm for arm in (*NETWORK_ARMS, *AVERAGED_ARMS) if arm in present]
        return known + sorted(set(present) - set(known))

    @property
    def n_seeds(self) -> int:
        """How many trainings of each arm there are; 0 where that is not known."""
        if "seed" not in self.cases:
            return 0
        networks = self.cases["arm"].isin(NETWORK_ARMS)
        return int(self.cases.loc[networks, "seed"].nunique())

    @property
    def baselines(self) -> list[str]:
        """Arms that are plain methods instead of networks."""
        return [arm for arm in self.arms if arm not in (*NETWORK_ARMS, *AVERAGED_ARMS)]


@dataclass(frozen=True, eq=False)
class Outlined:
    """Volumes with the outlines that are drawn on them.

    Attributes:
        images: `(N, 1, D, H, W)` float.
        labels: `(N, 1, D, H, W)` uint8.
        masks: `(N, 1, D, H, W)` bool.
        names: of the labels.
        spacing_mm: voxel size.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    names: dict[int, str]
    spacing_mm: tuple[float, ...]


def has_outlines(inputs: ReportInputs) -> bool:
    """Whether volumes are outlined: by their labels, or shapes by themselves."""
    return bool(inputs.cohort.label_names) or inputs.cohort.modality == "shape"


def outlined(
    inputs: ReportInputs, images: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor
) -> Outlined:
    """Volumes with their labels; binary shapes without labels are their own outline."""
    spacing = inputs.cohort.spacing_mm
    if inputs.cohort.label_names:
        return Outlined(images, labels, masks, inputs.cohort.label_names, spacing)
    if inputs.cohort.modality == "shape":
        shapes = (images > 0.5).to(torch.uint8)
        return Outlined(images, shapes, masks, {1: "shape"}, spacing)
    return Outlined(images, torch.zeros_like(labels), masks, {}, spacing)


def outlined_cohort(inputs: ReportInputs) -> Outlined:
    """All volumes of the cohort, outlined."""
    return outlined(inputs, inputs.cohort.images, inputs.cohort.labels, inputs.cohort.masks)
