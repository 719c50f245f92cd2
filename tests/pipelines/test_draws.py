"""The pieces of which the evidence is made, against the pipeline itself."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import draws
from dreamorph.datasets import RecordDataset
from dreamorph.parameters import Parameters
from dreamorph.pipelines.dream import nodes as dream
from dreamorph.training.tuning import candidates
from dreamorph.volumes.cohort import Cohort
from tests.pipelines.conftest import ROOT, Workplace

KEYS = ["arm", "seed", "case", "subject", "label"]


@pytest.fixture(scope="module")
def cohort(finished: Workplace) -> Cohort:
    return RecordDataset(str(finished.root / "data/03_primary/tiny/cohort")).load()


@pytest.fixture(scope="module")
def given() -> Parameters:
    given = draws.read_parameters(ROOT, "tiny")
    quiet = given.training.model_copy(update={"progress": False})
    return given.model_copy(update={"training": quiet})


@pytest.fixture(scope="module")
def prepared(cohort: Cohort, given: Parameters) -> draws.Prepared:
    return draws.prepare(cohort, given)


def test_pieces_of_a_draw_come_to_what_the_pipeline_does(
    finished: Workplace, cohort: Cohort, given: Parameters, prepared: draws.Prepared
) -> None:
    rows, fusion = draws.plain(cohort, given)
    energy = given.tuning.strengths(given.elastic_warps.energy)[0]
    networks = [
        draws.trained(cohort, given, prepared, arm, energy, 0, fusion)
        for arm in given.training.arms
    ]
    found = pd.concat([rows, *networks], ignore_index=True)
    (file,) = finished.root.glob("data/07_model_output/tiny/cases.csv")
    expected = pd.read_csv(file)
    expected = expected[expected["arm"].isin(found["arm"].unique())]
    both = found.merge(expected, on=KEYS, suffixes=("", "_expected"))
    assert set(both["arm"]) >= {"none", "classic", "elastic", "dream", "atlas", "dream+atlas"}
    assert len(both) == len(expected) == len(found)
    apart = (both["dice"] - both["dice_expected"]).abs()
    averaged = both["arm"].str.endswith("+atlas")
    assert apart[~averaged].max() < 1e-6
    # the pipeline keeps the votes of the fusion in bytes, which tips single voxels of small labels
    assert apart[averaged].mean() < 0.005
    assert apart[averaged].max() < 0.05


def test_tuning_of_a_draw_scores_what_the_pipeline_s_does(
    finished: Workplace, cohort: Cohort, given: Parameters, prepared: draws.Prepared
) -> None:
    (file,) = finished.root.glob("data/06_models/tiny/tuning_scores.csv")
    expected = pd.read_csv(file)
    ways = candidates(given.tuning, given.elastic_warps.energy, "segmentation")
    tables = [
        draws.tuned(cohort, given, fold, number, way)
        for number, fold in enumerate(prepared.folds)
        for way in ways
    ]
    found = pd.concat([table for table in tables if not table.empty])
    keys = ["arm", "energy", "fold", "subject", "label"]
    both = found.merge(expected, on=keys, suffixes=("", "_expected"))
    assert len(both) == len(found) == len(expected) > 0
    assert (both["score"] - both["score_expected"]).abs().max() < 1e-6


def test_what_a_draw_prepares_comes_back_from_its_file(
    prepared: draws.Prepared, tmp_path: Path
) -> None:
    prepared.save(tmp_path / "prepared.pt")
    again = draws.Prepared.load(tmp_path / "prepared.pt")
    assert torch.allclose(again.prior.fields, prepared.prior.fields, atol=1e-5)
    assert again.prior.members == prepared.prior.members
    pd.testing.assert_frame_equal(again.dreams, prepared.dreams)
    assert [fold.held_out for fold in again.folds] == [fold.held_out for fold in prepared.folds]
    assert [fold.recipes for fold in again.folds] == [fold.recipes for fold in prepared.folds]
    assert [fold.prior is None for fold in again.folds] == [
        fold.prior is None for fold in prepared.folds
    ]


@pytest.mark.parametrize("column", ["fingerprint", "subject", "class"])
def test_dreams_are_judged_again_where_a_volume_that_sets_their_range_has_changed(
    finished: Workplace, cohort: Cohort, given: Parameters, prepared: draws.Prepared, column: str
) -> None:
    """A corrected label of a volume outside the prior moves the gate's range, too."""
    (file,) = finished.root.glob("data/*/tiny/pair_table.csv")
    pairs = pd.read_csv(file)

    def keys(of: Cohort) -> set[str]:
        plan = dream.plan_dreams(of, prepared.prior, pairs, given.dreaming, given.audit)
        return set(plan["key"])

    table = cohort.table.copy()
    table.loc[cohort.indices("train")[-1], column] = "corrected"
    assert keys(cohort) == keys(cohort)
    assert not keys(cohort) & keys(dataclasses.replace(cohort, table=table))


def test_parameters_of_a_preset_are_those_of_kedro_run() -> None:
    given = draws.read_parameters(ROOT, "hippocampus", training={"steps": 7})
    assert given.cohort.subject.cases_per_subject == 2
    assert given.split.unlabelled_subjects == 30
    assert given.training.steps == 7
    assert given.training.dream_fraction == 0.8  # of the base


def test_a_draw_withholds_the_labels_of_the_unlabelled(cohort: Cohort) -> None:
    train = [cohort.cases[row] for row in cohort.indices("train")]
    chosen = pd.DataFrame({"case": train[:3], "split": ["train", "unlabelled", "test"]})
    drawn = draws.draw_of(cohort, chosen)
    assert drawn.cases == train[:3]
    assert drawn.table["labelled"].to_list() == [True, False, True]
    assert [bool(part.any()) for part in drawn.labels] == [True, False, True]
    whole = cohort.select([cohort.index_of(case) for case in train[:3]])
    assert torch.equal(drawn.labels[[0, 2]], whole.labels[[0, 2]])
    assert torch.equal(drawn.images, whole.images)
