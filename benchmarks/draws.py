"""Draws of few labelled volumes, in pieces: prepare, plain, tune, train.

The pieces are the pipeline's own functions, in its order, without its files and tracking, so that
several processes can share the work of a draw, on a GPU or on the cores of a CPU.
"""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from dreamorph.baselines.atlas import Atlases, fuse
from dreamorph.baselines.shape_classifier import fit_shape_classifier
from dreamorph.baselines.shape_features import shape_features
from dreamorph.dreaming import Recipe
from dreamorph.errors import DreamError, PriorError
from dreamorph.evaluation.classification import accuracy, auc
from dreamorph.parameters import Parameters
from dreamorph.pipelines.common import task_of
from dreamorph.pipelines.dream import nodes as dream
from dreamorph.pipelines.evaluate.nodes import ATLAS, AVERAGED, SHAPE, WITH_ATLAS, views_of
from dreamorph.pipelines.prior.nodes import learn_prior
from dreamorph.pipelines.register import nodes as registering
from dreamorph.pipelines.train import nodes as training
from dreamorph.pipelines.tune.folds import (
    Folds,
    Settings,
    class_weights,
    folds_of,
    held_out_scores,
    parted,
    shortened,
)
from dreamorph.pipelines.tune.nodes import FOLDS
from dreamorph.prior import DeformationPrior
from dreamorph.prior.basis import CosineBasis
from dreamorph.training import predict_each, train_arms
from dreamorph.training.arms import Material
from dreamorph.training.config import ArmName
from dreamorph.training.tuning import COLUMNS, Candidate
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.preprocess import preprocess
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import FEWEST_TRAINED, assign_splits
from dreamorph.volumes.validation import validate


class Kept(dict[str, Any]):
    """Results of one step, in memory; nothing of an earlier run lies there."""

    def stale(self, wanted: Collection[str]) -> dict[str, None]:
        """Nothing to remove."""
        return {}

    def with_all(self, found: Iterable[dict[str, Any]]) -> "Kept":
        """Itself, with all that a step gives."""
        for items in found:
            self.update(items)
        return self


@dataclass(frozen=True)
class Fold:
    """What the networks of one fold of the tuning learn from; no prior where it cannot be had."""

    held_out: tuple[str, ...]
    prior: DeformationPrior | None
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True)
class Prepared:
    """What a draw's networks learn from, besides its cohort."""

    prior: DeformationPrior
    dreams: pd.DataFrame
    folds: tuple[Fold, ...]

    def save(self, path: Path) -> None:
        """Write it to one file, a megabyte or two: priors as coefficients of their cosines."""
        state = {
            "prior": _packed(self.prior),
            "dreams": self.dreams,
            "folds": [
                (fold.held_out, None if fold.prior is None else _packed(fold.prior), fold.recipes)
                for fold in self.folds
            ],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Prepared":
        """What `save` wrote; priors are fitted again."""
        # written by this machine's own runs: tables and recipes are no plain tensors
        state = torch.load(path, weights_only=False)
        folds = [
            Fold(held_out, None if prior is None else _unpacked(prior), recipes)
            for held_out, prior, recipes in state["folds"]
        ]
        return cls(_unpacked(state["prior"]), state["dreams"], tuple(folds))


def arms_of_folds(path: Path) -> list[set[ArmName]]:
    """What the networks of each fold can be shown, by the file that `Prepared.save` wrote."""
    folds = torch.load(path, weights_only=False)["folds"]
    without: set[ArmName] = {"classic", "elastic", "learned"}
    return [
        set() if prior is None else without | {"dream"} if recipes else without
        for _, prior, recipes in folds
    ]


def read_parameters(root: Path, preset: str, **changes: dict[str, Any]) -> Parameters:
    """The parameters of a preset as `kedro run --env` has them, with further changes by group."""
    files = [*sorted((root / "conf/base/parameters").glob("*.yml"))]
    files.append(root / "conf" / preset / "parameters.yml")
    merged: dict[str, Any] = {}
    for layer in [*(yaml.safe_load(file.read_text()) for file in files), changes]:
        for group, values in (layer or {}).items():
            merged[group] = merged.get(group, {}) | values
    return Parameters(**merged)


def whole_cohort(given: Parameters) -> Cohort:
    """All volumes with their labels; the split says whom the preset tests on, all others train."""
    checked = validate(scan(given.cohort), given.cohort)
    table = assign_splits(checked.good, given.split, checked.quarantine)
    test = table["split"] == "test"
    # a split takes the labels away from those that are to be unlabelled; each draw has others
    own = checked.good.set_index("case")
    labels = table["case"].map(own["label"]).to_list()
    split = ["test" if one else "train" for one in test]
    return preprocess(
        table.assign(label=labels, split=split, labelled=True), checked.facts, given.cohort
    )


def cohort_of_classes(given: Parameters, labelled: int, draw: int) -> Cohort:
    """As many volumes with their classes, others without, and all that the data set tests on.

    Drawn as `kedro run` draws them, with the draw's number for a seed.
    """
    own = {"train_subjects": labelled, "test_subjects": None, "seed": draw}
    checked = validate(scan(given.cohort), given.cohort)
    table = assign_splits(checked.good, given.split.model_copy(update=own), checked.quarantine)
    return preprocess(table, checked.facts, given.cohort)


def draw_of(everyone: Cohort, chosen: pd.DataFrame) -> Cohort:
    """The cohort of a manifest's cases and splits; the labels of the unlabelled are withheld."""
    cohort = everyone.select([everyone.index_of(case) for case in chosen["case"]])
    split = [str(one) for one in chosen["split"]]
    known = torch.tensor([one != "unlabelled" for one in split])
    labels = cohort.labels * known.reshape(-1, 1, 1, 1, 1)
    table = cohort.table.assign(split=split, labelled=known.tolist())
    return dataclasses.replace(cohort, table=table, labels=labels)


def manifest(table: pd.DataFrame, labelled: int, draw: int, unlabelled: int) -> pd.DataFrame:
    """Case and split of a draw: `labelled` volumes of as many subjects, others without labels.

    `table` holds case, subject and split of every volume; those to test on stay the same.
    """
    test = table["split"] == "test"
    pool = sorted(table.loc[~test, "subject"].unique())
    order = np.random.default_rng(draw).permutation(pool).tolist()
    train = table[table["subject"].isin(order[:labelled])].drop_duplicates("subject")
    rest = table[table["subject"].isin(order[labelled:])].sort_values(
        "subject", key=lambda column: column.map({s: k for k, s in enumerate(order)}), kind="stable"
    )
    parts = [
        train.assign(split="train"),
        rest.head(unlabelled).assign(split="unlabelled"),
        table[test],
    ]
    return pd.concat(parts, ignore_index=True)


def prepare(cohort: Cohort, given: Parameters) -> Prepared:
    """Register, learn the prior, dream and judge, for all training subjects and for every fold."""
    config = given.registration
    plan = registering.plan_pairs(cohort, given.pairing, config)
    affine = Kept().with_all(registering.align_pairs(cohort, plan, config, Kept()))
    alignment = registering.reconcile_affines(cohort, plan, affine)
    plan = registering.plan_deformations(alignment, plan, config)
    pairs = Kept().with_all(registering.register_pairs(alignment, plan, config, Kept()))
    table = registering.judge_pairs(cohort, alignment, plan, affine, pairs)
    prior, _ = learn_prior(cohort, alignment, table, pairs, given.prior)
    recipes = dream.plan_dreams(cohort, prior, table, given.dreaming, given.audit)
    judged = Kept()
    if can_dream(cohort):
        found = dream.judge_dreams(cohort, prior, recipes, table, given.audit, Kept())
        judged = judged.with_all(found)
    else:
        recipes = recipes.head(0)
    count = FOLDS if given.tuning.folds is None else given.tuning.folds
    count = count if can_dream(cohort) else 0  # one subject cannot be held out
    folds = Folds(
        cohort, alignment, table, pairs, _settings(given),
        len(folds_of(cohort, count, given.tuning.seed)),
    )  # fmt: skip
    parts = []
    for held_out in folds.folds:
        try:
            material = folds.material(held_out)
        except (PriorError, DreamError):
            parts.append(Fold(held_out, None, ()))
        else:
            parts.append(Fold(held_out, material.prior, material.recipes))
    dreams = dream.collect_dreams(recipes, judged) if judged else recipes.assign(accepted=True)
    return Prepared(prior, dreams, tuple(parts))


def can_dream(cohort: Cohort) -> bool:
    """Whether there are label maps of two subjects, without which the gate has no range."""
    return cohort.table.loc[cohort.indices("train"), "subject"].nunique() >= FEWEST_TRAINED


def plain(cohort: Cohort, given: Parameters) -> tuple[pd.DataFrame, list[torch.Tensor]]:
    """Scores of the plain method, and its probabilities for every test volume.

    That is atlas fusion, or, for classes, a classifier on features of the shape.
    """
    train, tests = (cohort.select(cohort.indices(split)) for split in ("train", "test"))
    if task_of(cohort) == "segmentation":
        atlases = Atlases(train.images, train.labels, train.masks, cohort.n_labels)
        found = fuse(tests.images, tests.masks, atlases, cohort.spacing_mm, given.atlas_fusion)
        answers = list(found)
        return scored(tests, answers, ATLAS, 0), answers
    known, asked = (shape_features(p.images, p.masks, p.spacing_mm) for p in (train, tests))
    classes = training.training_data(cohort).classes
    assert classes is not None
    forest = fit_shape_classifier(
        known, classes.numpy(), len(cohort.class_names), given.shape_classifier
    )
    answers = list(torch.from_numpy(forest.predict(asked))[:, None])
    return scored(tests, answers, SHAPE, 0), answers


def tuned(
    cohort: Cohort, given: Parameters, fold: Fold, number: int, way: Candidate
) -> pd.DataFrame:
    """Scores of one candidate on the held-out subjects of a fold; none where it cannot be had."""
    learners, judges = parted(cohort, fold.held_out)
    rows: list[list[object]] = []
    if fold.prior is not None and (fold.recipes or way.arm != "dream"):
        sources = training.sources_of(learners)
        material = Material(
            learners.shape, learners.spacing_mm, tuple(sources.cases), tuple(sources.classes),
            fold.prior, fold.recipes, given.affine_warps, given.elastic_warps,
            given.training.dream_fraction,
        )  # fmt: skip
        arm = material.with_energy(way.energy).arm(way.arm)
        short = shortened(given.training, given.tuning)
        data = training.training_data(learners)
        (network,) = train_arms([(arm, given.tuning.seed)], data, short)
        scores = held_out_scores(network, judges, class_weights(cohort))
        rows = [[way.arm, way.energy, number, *score] for score in scores]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trained(
    cohort: Cohort,
    given: Parameters,
    prepared: Prepared,
    arm: ArmName,
    energy: float,
    seed: int,
    plain_answers: list[torch.Tensor],
) -> pd.DataFrame:
    """Scores of one network, and of its average with the atlas fusion where there is one."""
    material = training.material_of(
        cohort, prepared.prior, prepared.dreams, given.training, given.affine_warps,
        given.elastic_warps,
    )  # fmt: skip
    shown = material.with_energy(energy).arm(arm)
    (network,) = train_arms([(shown, seed)], training.training_data(cohort), given.training)
    tests = cohort.select(cohort.indices("test"))
    views = views_of(cohort, given.affine_warps, given.evaluation)
    answers = list(predict_each(network.build(), tests.images, tests.masks, views=views))
    tables = [scored(tests, answers, arm, seed)]
    if plain_answers and arm in AVERAGED and task_of(cohort) == "segmentation":
        both = [(a + b.float()) / 2 for a, b in zip(answers, plain_answers, strict=True)]
        tables.append(scored(tests, both, f"{arm}{WITH_ATLAS}", seed))
    return pd.concat(tables, ignore_index=True)


def scored(tests: Cohort, answers: Iterable[torch.Tensor], arm: str, seed: int) -> pd.DataFrame:
    """Dice, on the common grid, of every label that a case has; or how well classes are told."""
    if task_of(tests) == "classification":
        true = np.array([tests.class_names.index(str(c)) for c in tests.table["class"]])
        found = torch.cat(list(answers)).numpy()
        row = [arm, seed, "all", "all", auc(true, found), accuracy(true, found)]
        return pd.DataFrame([row], columns=["arm", "seed", "case", "subject", "auc", "accuracy"])
    rows = []
    for number, answer in enumerate(answers):
        labels, true = answer[0].argmax(dim=0), tests.labels[number, 0]
        case, subject = tests.cases[number], str(tests.table["subject"][number])
        for label in tests.label_names:
            a, b = labels == label, true == label
            if b.any():
                dice = 2 * int((a & b).sum()) / int(a.sum() + b.sum())
                rows.append([arm, seed, case, subject, label, dice])
    return pd.DataFrame(rows, columns=["arm", "seed", "case", "subject", "label", "dice"])


def _settings(given: Parameters) -> Settings:
    return Settings(
        given.prior, given.tuning, given.training, given.affine_warps, given.elastic_warps,
        given.dreaming, given.audit,
    )  # fmt: skip


def _packed(prior: DeformationPrior) -> dict[str, Any]:
    """All that `_unpacked` needs; a prior's fields hold nothing finer than its cosines."""
    return {
        "config": prior.config,
        "shape": tuple(prior.fields.shape[2:]),
        "extent_mm": prior.extent_mm,
        "coefficients": prior.basis.analyse(prior.fields.double()),
        "others": (prior.affines, prior.members, prior.subjects, prior.classes),
    }


def _unpacked(state: dict[str, Any]) -> DeformationPrior:
    config, extent_mm = state["config"], state["extent_mm"]
    basis = CosineBasis.up_to(state["shape"], extent_mm, config.wavelength_voxels)
    fields = basis.synthesise(state["coefficients"]).float()
    return DeformationPrior(config).fit(fields, extent_mm, *state["others"])
