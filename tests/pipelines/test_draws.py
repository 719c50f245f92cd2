"""The steps chained in memory, as the evidence does on a GPU, against the pipeline itself."""

import pandas as pd
import pytest
import torch

from benchmarks import draws
from dreamorph.datasets import RecordDataset
from dreamorph.volumes.cohort import Cohort
from tests.pipelines.conftest import ROOT, Workplace

KEYS = ["arm", "seed", "case", "subject", "label"]


@pytest.fixture(scope="module")
def cohort(finished: Workplace) -> Cohort:
    return RecordDataset(str(finished.root / "data/03_primary/tiny/cohort")).load()


def test_a_draw_in_memory_comes_to_what_the_pipeline_does(
    finished: Workplace, cohort: Cohort
) -> None:
    told: list[str] = []
    given = draws.read_parameters(ROOT, "tiny")
    quiet = given.training.model_copy(update={"progress": False})
    given = given.model_copy(update={"training": quiet})
    found = pd.concat(draws.run(cohort, given, told.append), ignore_index=True)
    (file,) = finished.root.glob("data/07_model_output/tiny/cases.csv")
    expected = pd.read_csv(file)
    expected = expected[expected["arm"].isin(found["arm"].unique())]
    both = found.merge(expected, on=KEYS, suffixes=("", "_expected"))
    assert set(both["arm"]) == {"none", "classic", "elastic", "dream", "atlas"} | {
        "elastic+atlas",
        "dream+atlas",
    }
    assert len(both) == len(expected)
    apart = (both["dice"] - both["dice_expected"]).abs()
    averaged = both["arm"].str.endswith("+atlas")
    assert apart[~averaged].max() < 1e-6
    assert apart[averaged].max() < 0.02  # the pipeline keeps the votes of the fusion in bytes
    assert set(found["arm"]) - set(both["arm"]) == {"gated", "gated+atlas"}
    assert any("dreams accepted" in line for line in told)


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
