"""Nodes of the tuning step."""

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import pandas as pd

from dreamorph.datasets import StoredItems
from dreamorph.dreaming import AffineWarpConfig, DreamConfig, ElasticWarpConfig
from dreamorph.dreaming.dreamer import VERSION as DREAMING
from dreamorph.fingerprint import fingerprint
from dreamorph.hallucination import AuditConfig
from dreamorph.hallucination.gate import VERSION as GATE
from dreamorph.pipelines.common import Items, progress, task_of, trusted
from dreamorph.pipelines.ingest.nodes import of_simulated
from dreamorph.pipelines.train.nodes import NOT_CHOSEN
from dreamorph.pipelines.tune.folds import Folds, Settings, folds_of, shortened
from dreamorph.prior import DeformationPrior, PriorConfig
from dreamorph.registration.groupwise import Alignment
from dreamorph.training import TrainingConfig
from dreamorph.training.fit import VERSION as TRAINING
from dreamorph.training.tuning import (
    COLUMNS,
    FEWEST_SUBJECTS,
    TuningConfig,
    candidates,
    check_counted,
    choose,
    counted,
)
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.config import CohortConfig

logger = logging.getLogger(__name__)

#: Counts up whenever the same parameters would give other scores.
VERSION = 8
#: Folds where the parameters leave it to the cohort and its patients are real.
FOLDS = 3
PLAN_COLUMNS = ["arm", "energy", "fold", "key"]


def plan_tuning(
    cohort: Cohort,
    prior: DeformationPrior,
    pair_table: pd.DataFrame,
    source: CohortConfig,
    origin: Items,
    tuning: TuningConfig,
    training: TrainingConfig,
    affine: AffineWarpConfig,
    elastic: ElasticWarpConfig,
    dreaming: DreamConfig,
    audit: AuditConfig,
) -> pd.DataFrame:
    """One row per network to train: every candidate in every fold. Empty for no tuning."""
    count = tuning.folds
    if count is None:
        count = 0 if of_simulated(source, origin) else FOLDS
    folds = folds_of(cohort, count, tuning.seed)
    if len(folds) < 2 or sum(map(len, folds)) < FEWEST_SUBJECTS:
        return pd.DataFrame(columns=PLAN_COLUMNS)
    given = (
        VERSION, TRAINING, DREAMING, GATE, prior.fingerprint, trusted(pair_table)["key"].to_list(),
        shortened(training, tuning).model_dump(mode="json", exclude={"device", "checkpoint_every"}),
        affine, elastic.sigma_mm, elastic.width, dreaming.scale, audit.of_the_gate(), tuning.pool,
        list(cohort.table.loc[cohort.indices("train"), "fingerprint"]),
        sorted(cohort.label_names.items()), cohort.class_names,
    )  # fmt: skip
    marks = [fingerprint(sorted(held_out), *given) for held_out in folds]
    rows = [
        [one.arm, one.energy, number, f"{one.arm}-{one.energy:g}-{number}-{mark}"]
        for number, mark in enumerate(marks)
        for one in candidates(tuning, elastic.energy, task_of(cohort))
    ]
    return pd.DataFrame(rows, columns=PLAN_COLUMNS)


def cross_validate(
    cohort: Cohort,
    alignment: Alignment,
    pair_table: pd.DataFrame,
    pairs: Items,
    plan: pd.DataFrame,
    prior: PriorConfig,
    tuning: TuningConfig,
    training: TrainingConfig,
    affine: AffineWarpConfig,
    elastic: ElasticWarpConfig,
    dreaming: DreamConfig,
    audit: AuditConfig,
    done: StoredItems,
) -> Iterator[dict[str, Any]]:
    """Train and judge the candidates that are missing, fold by fold."""
    settings = Settings(prior, tuning, training, affine, elastic, dreaming, audit)
    folds = Folds(cohort, alignment, pair_table, pairs, settings, plan["fold"].nunique())
    missing = plan[~plan["key"].isin(set(done))]
    yield from progress(folds.judge(missing), list(plan["key"]), done, "tuning")
    yield done.stale(list(plan["key"]))


def choose_warps(
    cohort: Cohort,
    plan: pd.DataFrame,
    tuned: Items,
    tuning: TuningConfig,
    elastic: ElasticWarpConfig,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores of all candidates, and what follows from them."""
    check_counted(tuning, list(cohort.label_names.values()))
    tables = [pd.DataFrame(tuned[key]["rows"], columns=list(COLUMNS)) for key in plan["key"]]
    scores = pd.concat(tables) if tables else pd.DataFrame(columns=list(COLUMNS))
    scores = scores.reset_index(drop=True)
    choice = choose(counted(scores, tuning.labels), elastic.energy, task_of(cohort))
    if not tables:
        choice = dataclasses.replace(choice, reason="tuning was not asked for")
    if choice.recommended is not None:
        logger.info(
            "recommended within the training subjects: %s (%s)", choice.recommended, choice.reason
        )
    return scores, {
        **{f"{arm}_energy": energy for arm, energy in choice.energies.items()},
        "recommended_arm": choice.recommended or NOT_CHOSEN,
        "choice_reason": choice.reason,
        "counted_labels": tuning.labels and list(tuning.labels),
    }
