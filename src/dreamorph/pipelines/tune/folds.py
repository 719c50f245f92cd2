"""Networks trained without some of the training subjects, and judged on them."""

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from dreamorph.dreaming import AffineWarpConfig, DreamConfig, Dreamer, ElasticWarpConfig, Recipe
from dreamorph.errors import DreamError, PriorError, TrainingError
from dreamorph.evaluation import class_balance
from dreamorph.hallucination import AuditConfig, Gate, Reals
from dreamorph.pipelines.common import Items, classes_of, replay, sources_of, task_of, trusted
from dreamorph.pipelines.prior.nodes import fit_to
from dreamorph.pipelines.train.nodes import training_data
from dreamorph.prior import DeformationPrior, PriorConfig, largest_group
from dreamorph.registration.groupwise import Alignment, member_rows
from dreamorph.training import (
    Arm,
    TrainedArm,
    TrainingConfig,
    TrainingData,
    predict_each,
    train_each,
)
from dreamorph.training.arms import Material
from dreamorph.training.tuning import Candidate, TuningConfig, deal
from dreamorph.volumes.cohort import Cohort

logger = logging.getLogger(__name__)

#: Dreams rendered and judged together.
CHUNK = 8
#: Stands for the label where classes are learned.
CLASS = "class"


@dataclass(frozen=True)
class Settings:
    """The parameters that shape a fold."""

    prior: PriorConfig
    tuning: TuningConfig
    training: TrainingConfig
    affine: AffineWarpConfig
    elastic: ElasticWarpConfig
    dreaming: DreamConfig
    audit: AuditConfig


def folds_of(cohort: Cohort, count: int, seed: int) -> list[tuple[str, ...]]:
    """The training subjects, dealt into folds."""
    if count == 0:
        return []
    table = cohort.table.iloc[cohort.indices("train")]
    return deal([str(s) for s in table["subject"]], classes_of(table), count, seed)


def shortened(training: TrainingConfig, tuning: TuningConfig) -> TrainingConfig:
    """How a candidate is trained: as the arms are, with fewer steps and one seed."""
    steps = max(1, round(training.steps * tuning.share_of_steps))
    # Arms are those of the plan; the field only has to be valid.
    change = {"steps": steps, "seeds": (tuning.seed,), "arms": ("elastic", "dream")}
    return training.model_copy(update=change | {"progress": False})


class Folds:
    """Cross-validation of ways of warping.

    What a fold's networks learn from knows nothing of the held-out subjects but that they helped to
    find the common space: the prior is fitted again without their pairs, and the dreams are drawn
    from it and pass a gate that does not know them either.
    """

    def __init__(
        self,
        cohort: Cohort,
        alignment: Alignment,
        pair_table: pd.DataFrame,
        pairs: Items,
        settings: Settings,
        count: int,
    ) -> None:
        self.cohort, self.alignment, self.pairs = cohort, alignment, pairs
        self.pair_table, self.settings = trusted(pair_table), settings
        self.folds = folds_of(cohort, count, settings.tuning.seed)
        self.class_weights = class_weights(cohort)

    def judge(self, missing: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """Scores of the candidates of a plan's rows, `{key: {"rows": ...}}`, one at a time.

        A fold that cannot be trained, for want of pairs, has no rows; without an accepted dream it
        has none of dreams.
        """
        begun: deque[tuple[str, Candidate, int, Cohort]] = deque()
        failed: list[str] = []
        short = shortened(self.settings.training, self.settings.tuning)
        for trained in train_each(self._jobs(missing, begun, failed), short):
            key, way, number, judges = begun.popleft()
            scores = held_out_scores(trained, judges, self.class_weights, short.device)
            yield {key: {"rows": [[way.arm, way.energy, number, *score] for score in scores]}}
        yield from ({key: {"rows": []}} for key in failed)

    def _jobs(
        self,
        missing: pd.DataFrame,
        begun: "deque[tuple[str, Candidate, int, Cohort]]",
        failed: list[str],
    ) -> Iterator[tuple[Arm, int, TrainingData]]:
        """The trainings of a plan's rows, each noted in `begun`; a fold is made when it is due."""
        for number, part in missing.groupby("fold", sort=True):
            held_out = self.folds[int(str(number))]
            learners, judges = parted(self.cohort, held_out)
            ways = [
                Candidate(a, float(e)) for a, e in zip(part["arm"], part["energy"], strict=True)
            ]
            try:
                material = self.material(held_out)
                by_energy = {e: material.with_energy(e) for e in {way.energy for way in ways}}
            except (PriorError, DreamError) as error:
                logger.warning("fold %s of the tuning cannot be judged: %s", number, error)
                failed += list(part["key"])
                continue
            data = training_data(learners)
            for key, way in zip(part["key"], ways, strict=True):
                try:
                    arm = by_energy[way.energy].arm(way.arm)
                except TrainingError as error:
                    logger.warning("fold %s of the tuning has no %s: %s", number, way.arm, error)
                    failed.append(key)
                    continue
                begun.append((key, way, int(str(number)), judges))
                yield arm, self.settings.tuning.seed, data

    def material(self, held_out: tuple[str, ...]) -> Material:
        """What the networks of a fold are shown, where these subjects are held out."""
        learners, _ = parted(self.cohort, held_out)
        members = self.cohort.table.iloc[member_rows(self.cohort)].reset_index(drop=True)
        inside = ~((members["split"] == "train") & members["subject"].astype(str).isin(held_out))
        known = set(members.index[inside])
        table = self.pair_table
        table = table[table["fixed"].isin(known) & table["moving"].isin(known)]
        kept = largest_group(
            list(table["fixed"]),
            list(table["moving"]),
            list((members["split"] == "train") & inside),
        )
        s = self.settings
        prior = fit_to(kept, self.cohort, self.alignment, table, self.pairs, s.prior)
        sources = sources_of(learners)
        recipes = accepted_dreams(sources, prior, table, s)
        return Material(
            learners.shape,
            learners.spacing_mm,
            tuple(sources.cases),
            tuple(sources.classes),
            prior,
            tuple(recipes),
            s.affine,
            s.elastic,
            s.training.dream_fraction,
        )


def parted(cohort: Cohort, held_out: tuple[str, ...]) -> tuple[Cohort, Cohort]:
    """The cohort without the held-out subjects, and the held-out volumes alone."""
    train = cohort.table["split"] == "train"
    out = train & cohort.table["subject"].astype(str).isin(held_out)
    judges = cohort.select([row for row, is_out in enumerate(out) if is_out])
    learners = cohort.select([row for row, is_out in enumerate(out) if not is_out])
    return learners, judges


def class_weights(cohort: Cohort) -> dict[str, float]:
    """What a training volume of each class counts, so that every class counts the same."""
    known = cohort.table.iloc[cohort.indices("train")].dropna(subset="class")
    weights = class_balance(known["class"], known["subject"])
    return {str(c): float(w) for c, w in zip(known["class"], weights, strict=True)}


def accepted_dreams(
    sources: Reals, prior: DeformationPrior, pair_table: pd.DataFrame, settings: Settings
) -> list[Recipe]:
    """Recipes of a small pool that pass the gate."""
    members = [prior.members.index(case) for case in sources.cases if case in prior.members]
    if not members:
        raise PriorError("no labelled volume is joined to the others without the held-out subjects")
    generator = torch.Generator().manual_seed(settings.tuning.seed)
    dreamer = Dreamer(prior, settings.dreaming.scale)
    recipes = dreamer.recipes(settings.tuning.pool, members, generator)
    gate = Gate(sources, pair_table, settings.audit, prior.fingerprint)
    accepted = []
    for start in range(0, len(recipes), CHUNK):
        part = recipes[start : start + CHUNK]
        judged = gate.judge(replay(prior, sources, part))
        accepted += [recipe for recipe, good in zip(part, judged["accepted"], strict=True) if good]
    return accepted


def held_out_scores(
    trained: TrainedArm,
    judges: Cohort,
    class_weights: Mapping[str, float],
    device: str = "auto",
) -> list[tuple[str, str, float]]:
    """Subject, label and mean score of every label that a subject has.

    The score is the Dice of the label or, of CLASS, the probability of the true class. That is
    weighted, so that its mean over subjects is the mean over classes: else a network that always
    names the commonest class would lead.
    """
    values: dict[tuple[str, str], list[float]] = {}
    answers = predict_each(trained.build(), judges.images, judges.masks, device)
    for row, answer in enumerate(answers):
        if task_of(judges) == "segmentation":
            found = answer[0].argmax(dim=0)
            scores = _dice(found, judges.labels[row, 0], judges.label_names)
        else:
            cls = str(judges.table["class"][row])
            probability = float(answer[0, judges.class_names.index(cls)])
            scores = {CLASS: class_weights[cls] * probability}
        subject = str(judges.table["subject"][row])
        for label, score in scores.items():
            values.setdefault((subject, label), []).append(score)
    return [(*key, sum(own) / len(own)) for key, own in values.items()]


def _dice(
    found: torch.Tensor, true: torch.Tensor, label_names: Mapping[int, str]
) -> dict[str, float]:
    """Dice of every label that a volume has, on the common grid."""
    scores = {}
    for label, name in label_names.items():
        a, b = found == label, true == label
        if b.any():
            scores[name] = 2 * int((a & b).sum()) / int(a.sum() + b.sum())
    return scores
