"""One draw of few labelled volumes, all steps in one process: no files, no tracking.

The steps are the pipeline's own functions, in its order. Where there is a GPU, several draws share
it, each in a process of its own.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from dreamorph.baselines.atlas import Atlases, fuse
from dreamorph.parameters import Parameters
from dreamorph.pipelines.dream import nodes as dream
from dreamorph.pipelines.evaluate.nodes import ATLAS, AVERAGED, WITH_ATLAS, views_of
from dreamorph.pipelines.prior.nodes import learn_prior
from dreamorph.pipelines.register import nodes as registering
from dreamorph.pipelines.train import nodes as training
from dreamorph.pipelines.tune import nodes as tuning
from dreamorph.training import predict_each, train_arms
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.preprocess import preprocess
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import assign_splits
from dreamorph.volumes.validation import validate

#: Trained first what the question is about.
ORDER = ("elastic", "dream", "learned", "classic", "none")


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


def draw_of(everyone: Cohort, chosen: pd.DataFrame) -> Cohort:
    """The cohort of a manifest's cases and splits; the labels of the unlabelled are withheld."""
    cohort = everyone.select([everyone.index_of(case) for case in chosen["case"]])
    split = [str(one) for one in chosen["split"]]
    known = torch.tensor([one != "unlabelled" for one in split])
    labels = cohort.labels * known.reshape(-1, 1, 1, 1, 1)
    table = cohort.table.assign(split=split, labelled=known.tolist())
    return dataclasses.replace(cohort, table=table, labels=labels)


def run(
    cohort: Cohort, given: Parameters, tell: Callable[[str], None] = lambda _: None
) -> Iterator[pd.DataFrame]:
    """Learn, dream, tune and train on one draw; rows (arm, seed, case, subject, label, dice).

    Dice is that of the common grid. The gated arm is the one that tuning recommends.
    """
    config = given.registration
    plan = registering.plan_pairs(cohort, given.pairing, config)
    affine = Kept().with_all(registering.align_pairs(cohort, plan, config, Kept()))
    alignment = registering.reconcile_affines(cohort, plan, affine)
    plan = registering.plan_deformations(alignment, plan, config)
    pairs = Kept().with_all(registering.register_pairs(alignment, plan, config, Kept()))
    pair_table = registering.judge_pairs(cohort, alignment, plan, affine, pairs)
    tell(f"{len(plan)} pairs registered")
    prior, _ = learn_prior(cohort, alignment, pair_table, pairs, given.prior)
    recipes = dream.plan_dreams(cohort, prior, pair_table, given.dreaming, given.audit)
    judged = Kept().with_all(
        dream.judge_dreams(cohort, prior, recipes, pair_table, given.audit, Kept())
    )
    dreams = dream.collect_dreams(recipes, judged)
    tell(f"{int(dreams['accepted'].sum())} of {len(dreams)} dreams accepted")
    warps = (given.training, given.affine_warps, given.elastic_warps)
    trials = tuning.plan_tuning(
        cohort, prior, pair_table, given.cohort, given.tuning, *warps, given.dreaming, given.audit
    )
    tuned = Kept().with_all(
        tuning.cross_validate(
            cohort, alignment, pair_table, pairs, trials, given.prior, given.tuning, *warps,
            given.dreaming, given.audit, Kept(),
        )
    )  # fmt: skip
    _, choice = tuning.choose_warps(trials, tuned, given.elastic_warps)
    tell(f"recommended: {choice['recommended_arm']} ({choice['choice_reason']})")
    yield from _trained(cohort, given, prior, dreams, choice, tell)


def _trained(
    cohort: Cohort,
    given: Parameters,
    prior: Any,
    dreams: pd.DataFrame,
    choice: dict[str, Any],
    tell: Callable[[str], None],
) -> Iterator[pd.DataFrame]:
    tests = cohort.select(cohort.indices("test"))
    fused = _fused(cohort, tests, given)
    yield _scored(tests, fused, ATLAS, 0)
    tell("atlas fusion done")
    material = training.material_of(
        cohort, prior, dreams, given.training, given.affine_warps, given.elastic_warps
    )
    recommended = str(choice["recommended_arm"])
    recommended = "elastic" if recommended == training.NOT_CHOSEN else recommended
    views = views_of(cohort, given.affine_warps, given.evaluation)
    data = training.training_data(cohort)
    for seed in given.training.seeds:
        names = [name for name in ORDER if name in given.training.arms]
        energy = {name: choice.get(f"{name}_energy", given.elastic_warps.energy) for name in names}
        jobs = [(material.with_energy(energy[name]).arm(name), seed) for name in names]
        for trained in train_arms(jobs, data, given.training):
            answers = list(predict_each(trained.build(), tests.images, tests.masks, views=views))
            tables = [_scored(tests, answers, trained.arm, seed)]
            if trained.arm in AVERAGED:
                both = [(a + b) / 2 for a, b in zip(answers, fused, strict=True)]
                tables.append(_scored(tests, both, f"{trained.arm}{WITH_ATLAS}", seed))
            if trained.arm == recommended:
                tables += [
                    table.assign(arm=table["arm"].str.replace(trained.arm, "gated"))
                    for table in tables
                ]
            yield pd.concat(tables, ignore_index=True)
            tell(f"{trained.arm}, seed {seed} done")


def _fused(cohort: Cohort, tests: Cohort, given: Parameters) -> list[torch.Tensor]:
    train = cohort.select(cohort.indices("train"))
    atlases = Atlases(train.images, train.labels, train.masks, cohort.n_labels)
    return list(fuse(tests.images, tests.masks, atlases, cohort.spacing_mm, given.atlas_fusion))


def _scored(tests: Cohort, answers: Iterable[torch.Tensor], arm: str, seed: int) -> pd.DataFrame:
    """Dice of every label that a case has."""
    rows = []
    for row, answer in enumerate(answers):
        found, true = answer[0].argmax(dim=0), tests.labels[row, 0]
        case, subject = tests.cases[row], str(tests.table["subject"][row])
        for label in tests.label_names:
            a, b = found == label, true == label
            if b.any():
                dice = 2 * int((a & b).sum()) / int(a.sum() + b.sum())
                rows.append([arm, seed, case, subject, label, dice])
    return pd.DataFrame(rows, columns=["arm", "seed", "case", "subject", "label", "dice"])
