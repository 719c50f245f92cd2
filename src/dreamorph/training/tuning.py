"""Choices made within the training subjects, before a test subject is seen.

Subjects are dealt into folds. For every fold and each way of warping that stands to choice, a
network is trained on the other subjects alone and judged on the fold. What comes out is how strong
warps had best be, and which way of warping to use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from dreamorph.config import Config
from dreamorph.errors import CohortError
from dreamorph.training.config import ArmName
from dreamorph.training.data import Task

#: Ways of warping that stand to choice. The first one is taken unless another is clearly better:
#: over many draws of few volumes it came out ahead, by less than one draw can show (decision 0026;
#: for classes, to which no warp has been of use so far, decision 0038).
WAYS: dict[Task, tuple[ArmName, ...]] = {
    "segmentation": ("learned", "elastic", "dream"),
    "classification": ("classic", "elastic", "learned", "dream"),
}
NAMES: dict[ArmName, str] = {
    "classic": "affine maps alone",
    "learned": "learned directions",
    "elastic": "random warps",
    "dream": "dreams",
}
#: Ways of warping that may be weaker or stronger.
SCALED: tuple[ArmName, ...] = ("elastic", "learned")
#: With fewer held-out subjects nothing is chosen.
FEWEST_SUBJECTS = 3
COLUMNS = ("arm", "energy", "fold", "subject", "label", "score")


class TuningConfig(Config):
    """Cross-validation within the training subjects.

    Attributes:
        folds: parts the training subjects are dealt into, at most one per subject; 0 for no
            cross-validation, and random warps as given in `elastic_warps`. Null takes 3 for real
            cohorts and 0 for simulated patients.
        share_of_steps: length of these trainings, relative to that of the arms.
        energies: strengths to choose from of random warps and of warps in learned directions, in
            units as `elastic_warps.energy`; null for that one alone.
        labels: names of the labels that count in the choice; null for all of them. All are learned
            and reported in any case.
        pool: dreams drawn and judged in each fold.
        seed: of the folds, the dreams and the networks.
    """

    folds: int | None = Field(default=None, ge=0)
    share_of_steps: float = Field(default=0.5, gt=0, le=1)
    energies: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    pool: int = Field(default=60, ge=8)
    seed: int = 0

    @field_validator("labels", mode="before")
    @classmethod
    def _one_label(cls, labels: object) -> object:
        return (labels,) if isinstance(labels, str) else labels

    @field_validator("energies")
    @classmethod
    def _some_energies(cls, energies: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if energies is None:
            return None
        if not energies or min(energies) <= 0 or len(set(energies)) != len(energies):
            raise ValueError(f"expected distinct positive numbers, got {list(energies)}")
        return energies

    def strengths(self, given: float) -> tuple[float, ...]:
        """What random and learned directions may be chosen from, `elastic_warps.energy` given."""
        return (given,) if self.energies is None else self.energies


@dataclass(frozen=True)
class Candidate:
    """A way of warping that stands to choice: an arm, its warps this strong if it has any."""

    arm: ArmName
    energy: float


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose.

    Attributes:
        energies: of `elastic` and of `learned`, in units of the dreams' own.
        recommended: the arm whose network to use; None where nothing was compared.
        reason: why, in one sentence.
    """

    energies: dict[ArmName, float]
    recommended: ArmName | None
    reason: str


def candidates(config: TuningConfig, given: float, task: Task) -> list[Candidate]:
    """Every way of warping of a task, those that may be weaker or stronger at all strengths."""
    others = [Candidate(arm, given) for arm in WAYS[task] if arm not in SCALED]
    scaled = [Candidate(arm, energy) for arm in SCALED for energy in config.strengths(given)]
    return [*scaled, *others]


def deal(
    subjects: Sequence[str], classes: Sequence[str | None], folds: int, seed: int
) -> list[tuple[str, ...]]:
    """Deal subjects into folds, each class evenly; every subject lies in exactly one.

    Args:
        subjects: one entry per volume.
        classes: class of each volume, None where unknown.
        folds: how many, if there are as many subjects.
        seed: of the order.
    """
    own = dict(zip(subjects, classes, strict=True))
    rng = np.random.default_rng(seed)
    order: list[str] = []
    for cls in sorted({str(c) for c in own.values()}):
        names = sorted(name for name, c in own.items() if str(c) == cls)
        order += [names[k] for k in rng.permutation(len(names))]
    count = min(folds, len(order))
    return [tuple(order[k::count]) for k in range(count)]


def check_counted(config: TuningConfig, known: Sequence[str]) -> None:
    """Whether the cohort has all labels that are to count. Raises CohortError."""
    unknown = [name for name in config.labels or () if name not in known]
    if unknown:
        raise CohortError(
            f"tuning.labels: expected labels of the cohort ({', '.join(known) or 'it has none'}),"
            f" got {unknown[0]!r}; null counts all of them"
        )


def counted(scores: pd.DataFrame, labels: Sequence[str] | None) -> pd.DataFrame:
    """The rows of the labels that count; all where there are no labels named."""
    return scores if labels is None else scores[scores["label"].isin(labels)]


def choose(scores: pd.DataFrame, fallback: float, task: Task) -> Choice:
    """Choose strengths by mean score over subjects; a way of warping needs a lead to be taken.

    Where labels are learned, warps in learned directions are used unless random warps or dreams
    lead them by more than one standard error; where classes are, affine maps alone, unless warps
    do. Dreams that could not be made for every held-out subject, since none passed the gate, do not
    stand to choice.

    The lead is the one-standard-error rule of Breiman et al., Classification and Regression Trees
    (1984): where evidence is thin, what is known beforehand decides.

    Args:
        scores: columns COLUMNS, one row per candidate, seed, held-out subject and label that
            counts; higher is better.
        fallback: energy of random warps where nothing was compared.
        task: what is learned.
    """
    held_out = scores["subject"].nunique()
    if held_out < FEWEST_SUBJECTS:
        why = f"{held_out} training subjects could be held out, {FEWEST_SUBJECTS} are needed"
        return Choice({arm: fallback for arm in SCALED}, None, why)
    by_subject = {
        (str(arm), float(str(energy))): part.groupby("subject")["score"].mean()
        for (arm, energy), part in scores.groupby(["arm", "energy"])
    }
    subjects = set(scores["subject"])
    lacking = {key for key, own in by_subject.items() if set(own.index) != subjects}
    by_subject = {key: own for key, own in by_subject.items() if key not in lacking}
    if any(arm != "dream" for arm, _ in lacking) or any(
        o.isna().any() for o in by_subject.values()
    ):
        raise ValueError("every candidate must be scored on the same subjects")
    energies: dict[ArmName, float] = {}
    for arm in WAYS[task]:
        means = {e: float(own.mean()) for (name, e), own in by_subject.items() if name == arm}
        if means:
            energies[arm] = max(means, key=lambda e: means[e])
    home, *others = energies
    leads: dict[ArmName, tuple[float, float]] = {}
    for arm in others:
        own, known = by_subject[arm, energies[arm]], by_subject[home, energies[home]]
        difference = (own - known).to_numpy(dtype=float)
        error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        leads[arm] = float(difference.mean()), error
    shown = "; ".join(
        f"{NAMES[arm]} minus {NAMES[home]} {lead:+.4f}, standard error {error:.4f}"
        for arm, (lead, error) in leads.items()
    )
    ahead = {arm: lead for arm, (lead, error) in leads.items() if lead > error}
    best: ArmName = max(ahead, key=lambda arm: ahead[arm]) if ahead else home
    offered = [energy for name, energy in by_subject if name == best]
    at_edge = energies[best] == max(offered) > min(offered)
    edge = "; the strongest on offer won" if at_edge else ""
    dreamt = any(arm == "dream" for arm, _ in by_subject)
    edge += "" if dreamt else "; not every fold had dreams that passed the gate"
    why = (
        f"{NAMES[best]} lead {NAMES[home]} by more than one standard error"
        if ahead
        else f"nothing leads {NAMES[home]} by more than one standard error"
    )
    return Choice(
        {arm: energies.get(arm, fallback) for arm in SCALED},
        best,
        f"{why} over {len(subjects)} held-out training subjects ({shown}{edge})",
    )
