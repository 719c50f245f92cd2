"""The bookkeeping of the evidence: who is in a draw, and what its curves say."""

import argparse

import numpy as np
import pandas as pd
import pytest

from benchmarks.cohorts import real_data
from benchmarks.evidence import (
    STUDIES,
    bootstrapped,
    cohort_table,
    finished,
    manifest,
    per_draw,
    summary,
    worth,
)


@pytest.fixture
def table() -> pd.DataFrame:
    """Twelve subjects of two volumes each; the last four are for testing."""
    rows = [
        [f"case_{2 * k + side:02d}", f"s{k:02d}", "test" if k >= 8 else "train"]
        for k in range(12)
        for side in range(2)
    ]
    table = pd.DataFrame(rows, columns=["case", "subject", "split"])
    return table.assign(image=table["case"] + "_image.nii.gz", label=table["case"] + ".nii.gz")


def results(**curves: list[float]) -> pd.DataFrame:
    """Scores of arms at 3, 6 and 12 volumes: two draws, two seeds, two subjects, all the same."""
    rows = [
        [n, draw, 700, arm, seed, f"case_{k}", f"s{k}", 1, dice + 0.01 * (2 * k - 1)]
        for arm, curve in curves.items()
        for n, dice in zip((3, 6, 12), curve, strict=True)
        for draw in range(2)
        for seed in range(2)
        for k in range(2)
    ]
    columns = ["labelled", "draw", "steps", "arm", "seed", "case", "subject", "label", "dice"]
    return pd.DataFrame(rows, columns=columns)


def test_a_draw_takes_one_volume_of_each_labelled_subject_and_every_test_volume(
    table: pd.DataFrame,
) -> None:
    rows = manifest(table, labelled=3, draw=0, unlabelled=30)
    parts = {split: part for split, part in rows.groupby("split")}
    assert len(parts["train"]) == parts["train"]["subject"].nunique() == 3
    assert set(parts["test"]["case"]) == set(table.loc[table["split"] == "test", "case"])
    subjects = [set(part["subject"]) for part in parts.values()]
    assert sum(map(len, subjects)) == len(set().union(*subjects))
    assert parts["unlabelled"]["label"].eq("").all()
    assert parts["train"]["label"].str.endswith(".nii.gz").all()


def test_draws_differ_and_repeat(table: pd.DataFrame) -> None:
    first, other = (
        set(manifest(table, 3, d, 30).query("split == 'train'")["case"]) for d in (0, 1)
    )
    assert first != other
    pd.testing.assert_frame_equal(manifest(table, 3, 1, 30), manifest(table, 3, 1, 30))


@pytest.mark.skipif(not real_data().exists(), reason="the real data sets are not on this machine")
def test_every_volume_may_be_drawn_with_its_label_whatever_the_preset_withholds() -> None:
    table = cohort_table(STUDIES["hippocampus"])
    assert set(table["split"]) == {"train", "unlabelled", "test"}
    assert table["label"].str.endswith(".nii.gz").all()
    drawn = manifest(table, labelled=20, draw=0, unlabelled=30)
    assert drawn.loc[drawn["split"] == "train", "label"].str.endswith(".nii.gz").sum() == 20


def test_labelled_volumes_that_random_warps_need_are_read_off_their_curve() -> None:
    table = worth(results(elastic=[0.80, 0.82, 0.84], dream=[0.82, 0.83, 0.85]), "dream").set_index(
        "n"
    )
    assert table.loc[3, "worth n"] == "6.0"
    assert table.loc[6, "worth n"] == f"{np.sqrt(6 * 12):.1f}"
    assert table.loc[12, "worth n"] == "more than 12"
    assert table.loc[3, "dream - random warps"] == "+0.0200"


def test_scores_are_means_over_subjects_and_intervals_over_draws() -> None:
    table = results(elastic=[0.80, 0.82, 0.84])
    assert per_draw(table).loc[3, "elastic"].tolist() == pytest.approx([0.8] * 4)
    table.loc[table["draw"] == 1, "dice"] += 0.02
    own = per_draw(table).loc[3, "elastic"]
    means = bootstrapped(own, np.random.default_rng(0))
    assert sorted(set(np.round(means, 6))) == pytest.approx([0.80, 0.81, 0.82])
    assert summary(table)["n = 3"].iloc[0] == "0.8100 (0.8000 to 0.8200), 2"


def test_a_draw_counts_as_finished_with_its_steps_and_seeds_only() -> None:
    table = results(dream=[0.8, 0.8, 0.8])

    def found(steps: int, seeds: int) -> int:
        return len(finished(table, argparse.Namespace(steps=steps, seeds=seeds)))

    assert (found(700, 2), found(700, 1), found(700, 3), found(900, 1)) == (6, 6, 0, 0)
