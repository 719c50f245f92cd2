"""Nodes of the training step."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dreamorph.datasets import StoredItems
from dreamorph.dreaming import AffineWarpConfig, ElasticWarpConfig
from dreamorph.dreaming.dreams import recipes_from_table
from dreamorph.errors import StaleError, TrainingError
from dreamorph.fingerprint import fingerprint
from dreamorph.pipelines.common import Items, sources_of, task_of
from dreamorph.pipelines.current import MADE_OF, mark_of_plan
from dreamorph.prior import DeformationPrior
from dreamorph.training import Arm, NetworkSpec, TrainedArm, TrainingConfig, TrainingData
from dreamorph.training import train_arms as learn
from dreamorph.training.arms import Material
from dreamorph.training.data import batch_size
from dreamorph.training.fit import VERSION as TRAINING
from dreamorph.training.tuning import SCALED
from dreamorph.volumes.cohort import Cohort

#: In place of an arm's name, where none is recommended.
NOT_CHOSEN = "none chosen"


def plan_arms(
    cohort: Cohort,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    choice: dict[str, Any],
    training: TrainingConfig,
    affine: AffineWarpConfig,
    elastic: ElasticWarpConfig,
) -> pd.DataFrame:
    """One row per network to train, named after all that shapes it."""
    arms = _arms(cohort, prior, dream_table, choice, training, affine, elastic)
    marks = list(cohort.table.loc[cohort.indices("train"), "fingerprint"])
    data = training_data(cohort)
    apart = {"arms", "seeds", "progress", "device", "checkpoint_every"}
    shared = training.model_dump(mode="json", exclude=apart)
    given = (TRAINING, shared, marks, data.classes, data.n_outputs)
    made_of = mark_of_plan(cohort, prior, dream_table, choice)
    rows = [
        {
            "arm": arm.name,
            "seed": seed,
            "key": f"{arm.name}-{seed}-{fingerprint(arm.fingerprint, seed, *given)}",
            MADE_OF: made_of,
        }
        for seed in training.seeds
        for arm in arms
    ]
    return pd.DataFrame(rows)


def train_arms(
    cohort: Cohort,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    choice: dict[str, Any],
    plan: pd.DataFrame,
    training: TrainingConfig,
    affine: AffineWarpConfig,
    elastic: ElasticWarpConfig,
    checkpoints: Path,
    done: StoredItems,
) -> Iterator[dict[str, Any]]:
    """Train each network that is not trained yet, from its newest checkpoint if there is one.

    Raises StaleError where the plan is of other parameters or volumes than this run's.
    """
    now = plan_arms(cohort, prior, dream_table, choice, training, affine, elastic)
    if list(now["key"]) != list(plan["key"]):
        raise StaleError(
            "the plan of networks is of other parameters or volumes than this run's: run plan_arms"
            " with it, or all steps (what is unchanged is not done again)"
        )
    arms = {
        arm.name: arm
        for arm in _arms(cohort, prior, dream_table, choice, training, affine, elastic)
    }
    missing = plan[[key not in done for key in plan["key"]]]
    jobs = [
        (arms[arm], int(seed)) for arm, seed in zip(missing["arm"], missing["seed"], strict=True)
    ]
    trained = learn(jobs, training_data(cohort), training, checkpoints)
    # trained first: asking for the next one says that the last one is stored
    for one, key in zip(trained, missing["key"], strict=True):
        yield {key: to_item(one, training, cohort)}
    # trained when there were fewer or more seeds: the dashboard would mix one training with means
    for key in plan["key"]:
        if (item := done.get(key)) is not None:
            name = _shown_name(item["name"], item["seed"], training)
            if item["arm"] != name:
                yield {key: item | {"arm": name}}
    # last, so that a run of other parameters that is stopped has thrown nothing away
    yield done.stale(list(plan["key"]))


def training_data(cohort: Cohort) -> TrainingData:
    """What networks may learn from: the labelled training volumes and nothing else."""
    part = cohort.select(cohort.indices("train"))
    if task_of(cohort) == "segmentation":
        return TrainingData(part.images, part.labels, part.masks, None, cohort.n_labels + 1)
    codes = [cohort.class_names.index(str(c)) for c in part.table["class"]]
    classes = torch.tensor(codes)
    return TrainingData(part.images, part.labels, part.masks, classes, len(cohort.class_names))


def to_item(trained: TrainedArm, training: TrainingConfig, cohort: Cohort) -> dict[str, Any]:
    """A trained network as plain values and tensors, and whom it learned from."""
    taught = cohort.table.iloc[cohort.indices("train")]
    return {
        "arm": _shown_name(trained.arm, trained.seed, training),
        "name": trained.arm,
        "seed": trained.seed,
        "network": asdict(trained.network),
        "state": trained.state,
        "history": {str(k): v for k, v in trained.history.to_dict("list").items()},
        "params": {
            "arm": trained.arm,
            "seed": trained.seed,
            "training": training.model_dump(mode="json")
            | {"batch_size": batch_size(training, task_of(cohort))},
            "network": asdict(trained.network),
        },
        "input_shape": (1, *cohort.shape),
        "subjects": sorted({str(s) for s in taught["subject"]}),
        "volumes": sorted(str(mark) for mark in taught["fingerprint"]),
    }


def _shown_name(arm: str, seed: int, training: TrainingConfig) -> str:
    """What a training is called in the dashboard, where an arm's own name is that of its mean."""
    return arm if len(training.seeds) == 1 else f"{arm}-seed{seed}"


def from_item(item: dict[str, Any]) -> TrainedArm:
    """The inverse of `to_item`."""
    network = item["network"] | {"channels": tuple(item["network"]["channels"])}
    return TrainedArm(
        item["name"],
        item["seed"],
        NetworkSpec(**network),
        item["state"],
        pd.DataFrame(item["history"]),
    )


def stored_network(arms: Items, arm: str, key: str) -> dict[str, Any]:
    """The item of a planned network.

    Raises:
        TrainingError: it was not trained, since the step was stopped before.
    """
    item: dict[str, Any] | None = arms.get(key)
    if item is None:
        raise TrainingError(
            f"the network of arm {arm} was planned and is not there: training was stopped before it"
            " ended, so run that step, or all of them, again"
        )
    return item


def build(item: dict[str, Any]) -> torch.nn.Module:
    """The network of a stored arm, for tracking."""
    return from_item(item).build()


def material_of(
    cohort: Cohort,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    training: TrainingConfig,
    affine: AffineWarpConfig,
    elastic: ElasticWarpConfig,
) -> Material:
    """What the arms of a cohort are made of."""
    sources = sources_of(cohort)
    return Material(
        cohort.shape,
        cohort.spacing_mm,
        tuple(sources.cases),
        tuple(sources.classes),
        prior,
        tuple(recipes_from_table(dream_table[dream_table["accepted"]])),
        affine,
        elastic,
        training.dream_fraction,
    )


def _arms(
    cohort: Cohort,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    choice: dict[str, Any],
    training: TrainingConfig,
    affine: AffineWarpConfig,
    elastic: ElasticWarpConfig,
) -> list[Arm]:
    """The wanted arms and the recommended one, their warps as strong as tuning chose."""
    material = material_of(cohort, prior, dream_table, training, affine, elastic)
    recommended = [choice["recommended_arm"]] if choice["recommended_arm"] != NOT_CHOSEN else []
    arms = []
    for name in dict.fromkeys([*training.arms, *recommended]):
        energy = choice[f"{name}_energy"] if name in SCALED else elastic.energy
        tuned = material.with_energy(energy)
        arms.append(tuned.arm(name))
    return arms
