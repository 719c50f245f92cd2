"""The bookkeeping of the evidence: who is in a draw, and what its curves say."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import draws, evidence
from benchmarks.cohorts import ROOT, real_data
from benchmarks.curves import (
    ALONE,
    ARMS,
    NAMES,
    STRONG,
    bootstrapped,
    differences,
    of_common_draws,
    per_draw,
    summary,
    worth,
)
from benchmarks.draws import draw_of, manifest, read_parameters, whole_cohort
from benchmarks.evidence import (
    STUDIES,
    Progress,
    Study,
    add,
    beside,
    compared,
)
from benchmarks.pieces import Piece, Workshop
from benchmarks.settings import check_settings
from dreamorph.parameters import Parameters


@pytest.fixture
def table() -> pd.DataFrame:
    """Twelve subjects of two volumes each; the last four are for testing."""
    rows = [
        [f"case_{2 * k + side:02d}", f"s{k:02d}", "test" if k >= 8 else "train"]
        for k in range(12)
        for side in range(2)
    ]
    return pd.DataFrame(rows, columns=["case", "subject", "split"])


def results(**curves: list[float]) -> pd.DataFrame:
    """Scores of arms at 3, 6 and 12 volumes: four draws, two seeds, two subjects, all the same."""
    rows = [
        [n, draw, 700, arm, 0.0, seed, f"case_{k}", f"s{k}", 1, dice + 0.01 * (2 * k - 1)]
        for arm, curve in curves.items()
        for n, dice in zip((3, 6, 12), curve, strict=False)
        for draw in range(4)
        for seed in range(2)
        for k in range(2)
    ]
    return pd.DataFrame(rows, columns=[*evidence.KEYS, "label", "dice"])


def test_a_draw_takes_one_volume_of_each_labelled_subject_and_every_test_volume(
    table: pd.DataFrame,
) -> None:
    rows = manifest(table, labelled=3, draw=0, unlabelled=30)
    parts = {split: part for split, part in rows.groupby("split")}
    assert len(parts["train"]) == parts["train"]["subject"].nunique() == 3
    assert set(parts["test"]["case"]) == set(table.loc[table["split"] == "test", "case"])
    subjects = [set(part["subject"]) for part in parts.values()]
    assert sum(map(len, subjects)) == len(set().union(*subjects))
    assert len(parts["unlabelled"]) == 10  # five subjects, all their volumes


def test_draws_differ_and_repeat(table: pd.DataFrame) -> None:
    first, other = (
        set(manifest(table, 3, d, 30).query("split == 'train'")["case"]) for d in (0, 1)
    )
    assert first != other
    pd.testing.assert_frame_equal(manifest(table, 3, 1, 30), manifest(table, 3, 1, 30))


@pytest.mark.skipif(not real_data().exists(), reason="the real data sets are not on this machine")
def test_every_volume_may_be_drawn_with_its_label_whatever_the_preset_withholds() -> None:
    given = STUDIES["ct"].parameters
    everyone = whole_cohort(given)
    table = everyone.table[["case", "subject", "split"]]
    assert (table["split"] != "test").sum() == 12
    cohort = draw_of(everyone, manifest(table, labelled=9, draw=0, unlabelled=3))
    taught = cohort.select(cohort.indices("train"))
    assert len(taught) == 9
    assert all(bool(label.any()) for label in taught.labels)
    assert not cohort.labels[cohort.indices("unlabelled")].any()


def test_labelled_volumes_that_random_warps_need_are_read_off_their_curve() -> None:
    table = results(
        elastic=[0.80, 0.82, 0.84], dream=[0.82, 0.83, 0.85], learned=[0.79, 0.82, 0.84]
    )
    dream = worth(table, "dream").set_index("n")
    middle = f"{np.sqrt(6 * 12):.1f}"
    assert dream.loc[3, "worth n"] == "6.0 (6.0 to 6.0)"
    assert dream.loc[6, "worth n"] == f"{middle} ({middle} to {middle})"
    assert dream.loc[12, "worth n"] == "over 12 (over 12 to over 12)"
    assert dream.loc[3, "dreams - random warps"] == "+0.0200 (+0.0200 to +0.0200)"
    assert worth(table, "learned").set_index("n").loc[3, "worth n"].startswith("under 3")


@pytest.mark.parametrize("draws", [1, 3])
def test_few_draws_have_no_interval(draws: int) -> None:
    table = results(elastic=[0.80, 0.82, 0.84], dream=[0.82, 0.83, 0.85])
    table = table[table["draw"] < draws]
    shown = f"{draws}, {2 * draws}"
    assert summary(table)["n = 3"].to_list() == [f"0.8000, {shown}", f"0.8200, {shown}"]
    assert worth(table, "dream").iloc[0].to_list() == [3, "+0.0200", "-", "6.0"]


def test_one_label_may_count_alone() -> None:
    table = results(elastic=[0.8])
    table = pd.concat([table, table.assign(label=2, dice=table["dice"] - 0.2)])
    own = STUDIES["ct"].counted(table)
    assert per_draw(own).mean() == pytest.approx(0.6)
    assert STUDIES["hippocampus"].counted(table) is table


def test_a_curve_rises_within_draws_though_easy_ones_lack_its_end() -> None:
    """The second draw is .1 better and stops at 6 volumes: plain means would fall."""
    table = results(elastic=[0.80, 0.82, 0.84], dream=[0.81, 0.83, 0.84])
    table.loc[table["draw"] == 1, "dice"] += 0.1
    table = table[(table["draw"] == 0) | (table["labelled"] < 12)]
    found = worth(table, "dream").set_index("n")["worth n"]
    assert found[6].split(" ")[0] == f"{np.sqrt(6 * 12):.1f}"
    assert found[12].split(" ")[0] == "12.0"


def test_where_a_curve_does_not_rise_its_first_place_counts() -> None:
    table = results(elastic=[0.80, 0.79, 0.84], gated=[0.80, 0.79, 0.84])
    assert worth(table, "gated").set_index("n").loc[3, "worth n"].startswith("3.0 ")


def test_where_no_curve_rises_nothing_is_worth_more_or_fewer_volumes() -> None:
    table = results(elastic=[0.80, 0.79, 0.78], dream=[0.81, 0.82, 0.79])
    assert worth(table, "dream")["worth n"].to_list() == ["-", "-", "-"]
    assert worth(table.query("labelled == 3"), "dream")["worth n"].to_list() == ["-"]


def test_ends_are_those_of_the_random_warps_where_an_arm_lacks_some() -> None:
    """One labelled volume cannot be dreamed from: dreams begin at six."""
    table = results(elastic=[0.80, 0.82, 0.84], dream=[0.0, 0.79, 0.85])
    table = table[(table["arm"] != "dream") | (table["labelled"] > 3)]
    found = worth(table, "dream").set_index("n")["worth n"]
    assert found.index.to_list() == [6, 12]
    assert found[6].startswith("under 3")
    study = STUDIES["hippocampus"]
    assert "dream" not in study.arms_of(1)
    assert set(study.arms_of(1)) | {"dream"} == set(study.arms_of(3))


def test_curves_show_draws_that_all_arms_have() -> None:
    """An arm that lacks the hard draws would look better for it, as would an n that lacks them."""
    table = results(elastic=[0.5, 0.6], dream=[0.52, 0.62])
    table["dice"] -= 0.1 * table["draw"]
    lacks = (table["arm"] == "dream") & (table["labelled"] == 3) & (table["draw"] > 1)
    scores = of_common_draws(per_draw(table[~lacks])).groupby(level=["labelled", "arm"])
    means = scores.mean()
    assert means[3, "dream"] - means[3, "elastic"] == pytest.approx(0.02)
    assert means[3, "elastic"] == pytest.approx(0.45)
    assert scores.size().to_dict() == {
        (3, "dream"): 4, (3, "elastic"): 4, (6, "dream"): 4, (6, "elastic"): 4,
    }  # fmt: skip


def test_an_interval_does_not_rest_on_the_draws_of_another_n() -> None:
    """Of six volumes there is one draw: resamples without it say as much of three and twelve."""
    table = results(elastic=[0.5, 0.6, 0.7], dream=[0.52, 0.62, 0.72])
    table["dice"] += 0.05 * (table["arm"] == "dream") * (table["draw"] - 1.5)
    whole = worth(table[table["labelled"] != 6], "dream").set_index("n")
    gap = worth(table[(table["labelled"] != 6) | (table["draw"] == 0)], "dream").set_index("n")
    title = "dreams - random warps"
    assert gap.loc[12, title] == whole.loc[12, title]
    assert gap.loc[3, title] == whole.loc[3, title]


def test_intervals_of_what_an_arm_is_worth_are_those_of_its_draws() -> None:
    table = results(elastic=[0.80, 0.82, 0.84], dream=[0.81, 0.83, 0.84])
    lucky = (table["draw"] % 2 == 1) & (table["arm"] == "dream")
    table.loc[lucky, "dice"] += 0.01
    found = worth(table, "dream").set_index("n").loc[3]
    assert found["dreams - random warps"] == "+0.0150 (+0.0100 to +0.0200)"
    assert found["worth n"] == f"{3 * 2**0.75:.1f} ({3 * 2**0.5:.1f} to 6.0)"
    # of .01, .02, .01, .02: standard error .0029, times 3.18 for three degrees of freedom
    assert found["by Student's t"] == "+0.0058 to +0.0242"


def test_scores_are_means_over_subjects_and_intervals_over_draws() -> None:
    table = results(elastic=[0.80, 0.82, 0.84])
    assert per_draw(table).loc[3, "elastic"].tolist() == pytest.approx([0.8] * 8)
    table.loc[table["draw"] % 2 == 1, "dice"] += 0.02
    own = per_draw(table).loc[3, "elastic"]
    means = bootstrapped(own, np.random.default_rng(0))
    expected = [0.80, 0.805, 0.81, 0.815, 0.82]
    assert sorted(set(np.round(means, 6))) == pytest.approx(expected)
    assert summary(table)["n = 3"].iloc[0] == "0.8100 (0.8000 to 0.8200), 4, 8"


def test_networks_without_unlabelled_volumes_stand_beside_those_with_of_the_same_draws() -> None:
    whole = results(elastic=[0.80, 0.82], learned=[0.84, 0.83], dream=[0.81, 0.80], classic=[0.7])
    alone = results(learned=[0.81], atlas=[0.6]).query("draw > 0")
    alone.loc[alone["draw"] == 3, "dice"] += 0.04
    both = beside(alone, whole, ALONE)
    assert set(both["arm"]) == {"elastic", "learned", "learned-alone"}
    assert set(both["draw"]) == {1, 2, 3}
    assert set(both["labelled"]) == {3}
    found = differences(both, [("learned", "learned-alone"), ("learned-alone", "elastic")])
    assert found["mean"].to_list() == ["+0.0167", "+0.0233"]
    assert found["ahead in"].to_list() == ["4 of 6", "6 of 6"]
    assert set(found["by Student's t"]) == {"-"}  # three draws
    four = results(learned=[0.81], elastic=[0.80])
    four.loc[four["draw"] == 3, "dice"] -= 0.02 * (four["arm"] == "learned")
    row = differences(four, [("learned", "elastic")]).iloc[0]
    assert row["by Student's t"] == "-0.0109 to +0.0209"  # .005, three times .005 by t(3)


def test_arms_of_another_strength_are_held_against_random_warps_of_both() -> None:
    pairs = compared(("elastic", "learned"), STRONG)
    assert pairs[:2] == [("elastic", "elastic-strong"), ("learned", "learned-strong")]
    assert set(pairs[2:]) == {
        (arm, rival)
        for arm in ("learned", "learned-strong")
        for rival in ("elastic", "elastic-strong")
    }
    assert ("dream-alone", "elastic") in compared(("learned", "dream"), ALONE)
    names = {name for pair in pairs for name in pair}
    assert names <= set(ARMS)
    assert {name for name in names if "strong" in name} <= set(NAMES)


@pytest.mark.skipif(not real_data().exists(), reason="the real data sets are not on this machine")
def test_a_study_of_stronger_warps_differs_in_their_strength_alone() -> None:
    strong, whole = (STUDIES[name].parameters for name in ("hippocampus_strong", "hippocampus"))
    assert strong.elastic_warps.energy == 2 * whole.elastic_warps.energy
    same = {"elastic_warps": whole.elastic_warps, "tuning": whole.tuning}
    assert strong.model_copy(update=same) == whole


@pytest.mark.skipif(not real_data().exists(), reason="the real data sets are not on this machine")
def test_a_study_of_labelled_volumes_alone_lacks_the_unlabelled_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Other test subjects, or other labelled ones, could not be held against."""
    given, whole = (STUDIES[name].parameters for name in ("hippocampus_alone", "hippocampus"))
    assert given.tuning.folds == 0
    assert given.split == whole.split
    alone = Workshop(given, tmp_path, alone=True)
    beside_it = Workshop(whole, tmp_path)
    alone.__dict__["everyone"] = beside_it.everyone  # read once
    own, other = (shop.cohort(3, 0).table.set_index("case")["split"] for shop in (alone, beside_it))
    assert set(own) == {"train", "test"}
    assert (other == "unlabelled").sum() > 20
    pd.testing.assert_series_equal(own, other[other != "unlabelled"])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Progress:
    """Of two draws at n = 3 one is tuned, and trained for one seed at two strengths."""
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    monkeypatch.setattr(evidence, "WORK", tmp_path / "work")
    (tmp_path / "benchmarks").mkdir()
    given = read_parameters(ROOT, "hippocampus", tuning={"energies": [1.0, 4.0]})
    study = Study("hippocampus", "", (3,))
    study.__dict__["parameters"] = given
    tuned = [
        [3, 0, 700, arm, energy, fold, f"s{fold}", "organ", score]
        for arm, energy, score in (
            ("elastic", 1.0, 0.6), ("elastic", 4.0, 0.7), ("learned", 1.0, 0.9),
            ("learned", 4.0, 0.8), ("dream", 1.0, 0.5),
        )
        for fold in range(3)
    ]  # fmt: skip
    add(pd.DataFrame(tuned, columns=evidence.TUNING), study.tuning)
    for energy in (1.0, 4.0):
        rows = results(**{"elastic": [0.8], "learned": [0.7 + energy / 10], "dream": [0.75]})
        rows = rows[(rows["draw"] == 0) & (rows["seed"] == 0)]
        rows["energy"] = [0.0 if arm == "dream" else energy for arm in rows["arm"]]
        add(rows[(rows["arm"] != "dream") | (energy == 1.0)], study.results)
    return Progress(study, argparse.Namespace(steps=700, seeds=2, jobs=1))


def test_scores_are_those_of_the_chosen_strengths_and_of_what_is_recommended(
    study: Progress,
) -> None:
    means = per_draw(study.scores()).groupby("arm").mean()
    assert set(means.index) == {"elastic", "learned", "dream", "gated"}
    assert means["learned"] == pytest.approx(0.8)  # of energy 1
    assert means["gated"] == pytest.approx(means["learned"])
    energies = study.scores().groupby("arm")["energy"].unique().map(list).to_dict()
    assert energies == {"elastic": [4.0], "learned": [1.0], "dream": [0.0], "gated": [1.0]}


def test_a_draw_whose_tuning_is_not_finished_is_left_out(study: Progress) -> None:
    before = study.scores()
    add(results(atlas=[0.7]).assign(draw=7), study.study.results)
    tuned = pd.DataFrame(
        [
            [3, 7, 700, arm, 4.0, fold, f"s{fold}", "organ", 0.5]
            for arm, fold in (("elastic", 0), ("learned", 1))
        ],
        columns=evidence.TUNING,
    )
    add(tuned, study.study.tuning)
    pd.testing.assert_frame_equal(study.scores(), before)


def test_a_draw_that_was_trained_but_not_tuned_is_not_complete(study: Progress) -> None:
    arms = {arm: [0.8] for arm in (*evidence.TRAINED, "atlas")}
    add(results(**arms), study.study.results)
    again = Progress(study.study, study.options)
    assert not again._complete(3, 1)
    tuned = pd.read_csv(study.study.tuning).assign(draw=1)[evidence.TUNING]
    add(tuned[tuned["fold"] < 2], study.study.tuning)
    energy = {"learned": 1.0, "elastic": 4.0}
    rows = results(**arms)
    rows["energy"] = rows["arm"].map(energy).fillna(0.0)
    add(rows[rows["arm"].isin(energy)], study.study.results)
    assert not Progress(study.study, study.options)._complete(3, 1)
    add(tuned[tuned["fold"] == 2], study.study.tuning)
    assert Progress(study.study, study.options)._complete(3, 1)


def test_networks_that_are_there_are_not_trained_again(study: Progress) -> None:
    missing = study._missing(study._to_train(3, 0))
    assert {piece.arm for piece in missing if piece.seed == 0} == {"none", "classic"}
    assert {piece.arm for piece in missing if piece.seed == 1} == set(evidence.TRAINED)
    assert Piece("train", 3, 0, "learned", 1.0, 0, 1) in missing
    assert Piece("train", 3, 0, "elastic", 4.0, 0, 1) in missing
    assert len(study._missing(study._to_train(3, 1))) == 2 * len(evidence.TRAINED)


def test_work_that_is_there_is_kept_and_the_rest_done(
    study: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every piece once, each strength only after the cross-validation that chooses it."""
    asked: list[Piece] = []

    class Fake:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Fake":
            return self

        def __exit__(self, *_: object) -> None: ...

        def each(
            self, ready: Callable[[], Iterable[Piece]]
        ) -> Iterator[tuple[Piece, pd.DataFrame]]:
            while piece := next(iter(ready()), None):
                asked.append(piece)
                row = {"arm": piece.arm, "seed": piece.seed, "case": "a", "subject": "s"}
                row |= {"label": 1, "dice": 0.5}
                if piece.kind == "tune":
                    row = {"arm": piece.arm, "energy": piece.energy, "fold": piece.fold}
                    row |= {"subject": f"s{piece.fold}", "label": "organ", "score": piece.energy}
                yield piece, pd.DataFrame() if piece.kind == "prepare" else pd.DataFrame([row])

    monkeypatch.setattr(evidence, "Processes", Fake)
    monkeypatch.setattr(Workshop, "done", lambda _, piece: piece in asked)
    # no dream of the last fold is accepted
    folds = [{"elastic", "learned", "dream"}] * 2 + [{"elastic", "learned"}]
    monkeypatch.setattr(draws, "arms_of_folds", lambda _: folds)
    study.complete([(3, 1)])
    assert [piece.kind for piece in asked[:2]] == ["prepare", "plain"]
    kinds = [piece.kind for piece in asked]
    assert kinds.count("tune") == 3 * 4 + 2
    assert kinds == sorted(kinds, key=["prepare", "plain", "tune", "train"].index)
    trained = [piece for piece in asked if piece.kind == "train"]
    assert len(trained) == 2 * len(evidence.TRAINED)
    assert {piece.energy for piece in trained if piece.arm == "learned"} == {4.0}
    before, table = list(asked), pd.read_csv(study.study.results)
    study.complete([(3, 1)])
    again = Progress(study.study, study.options)
    assert list(again._ready([(3, 1)])) == []
    assert asked == before
    # on another machine, without the files, one more seed needs the plain answers, not their scores
    asked.clear()
    study.options.seeds = 3
    study.complete([(3, 1)])
    assert [piece.kind for piece in asked] == [
        "prepare",
        "plain",
        *["train"] * len(evidence.TRAINED),
    ]
    grown = pd.read_csv(study.study.results)
    assert list(grown["arm"][len(table) :]) == list(evidence.TRAINED)


def test_results_of_other_parameters_are_not_added_to(tmp_path: Path) -> None:
    file, given = tmp_path / "settings.json", Parameters.model_validate({"cohort": {}})

    def changed(group: str, **change: Any) -> Parameters:
        own = getattr(given, group).model_copy(update=change)
        return given.model_copy(update={group: own})

    check_settings("ct", given, file)
    check_settings("ct", changed("training", steps=7, seeds=(3,)), file)
    check_settings("ct", changed("cohort", path=tmp_path), file)
    for other in (
        changed("training", learning_rate=0.5),
        changed("cohort", ct_window_hu=(-1.0, 1.0)),
    ):
        with pytest.raises(SystemExit, match="made under other parameters"):
            check_settings("ct", other, file)
    check_settings("hippocampus", changed("training", learning_rate=0.5), file)
    check_settings("ct", changed("training", learning_rate=0.5), file, mix=True)
    check_settings("ct", given, file)  # of which there are results as well
    with pytest.raises(SystemExit, match="prior"):
        check_settings("ct", changed("prior", modes=3), file)
