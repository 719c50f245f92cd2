"""The verdict never says more than the numbers carry."""

import io
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from dreamorph.hallucination.result import to_table
from dreamorph.reporting import ReportInputs
from dreamorph.reporting.statements import (
    against,
    best_baseline,
    claims,
    hallucination,
    not_of_dreams,
    overall,
    recommendation,
)
from tests.reporting.conftest import make_checks

ROW: dict[str, Any] = {
    "first": "dream", "second": "elastic", "metric": "dice", "n_subjects": 12, "mean_first": 0.84,
    "mean_second": 0.82, "difference": 0.02, "lower": 0.01, "upper": 0.03, "p": 0.01,
    "p_holm": 0.02, "note": "",
}  # fmt: skip


def judged(inputs: ReportInputs, **changes: Any) -> tuple[str, str, str]:
    table = pd.DataFrame([ROW | changes])
    statement = against(replace(inputs, comparisons=table), "elastic", "the random warp")
    return statement.answer, statement.sentence, statement.tone


def test_a_clear_gain(complete: ReportInputs) -> None:
    answer, sentence, tone = judged(complete)
    assert (answer, tone) == ("Yes", "good")
    assert "0.840 with dreams, 0.820 with random warp: difference +0.020" in sentence
    assert "interval +0.010 to +0.030, p = 0.020 (exact Wilcoxon, Holm), 12 test" in sentence


def test_a_clear_loss(complete: ReportInputs) -> None:
    answer, _, tone = judged(complete, difference=-0.02, lower=-0.03, upper=-0.01)
    assert (answer, tone) == ("No, it was worse", "bad")


def test_an_interval_across_zero_shows_nothing(complete: ReportInputs) -> None:
    answer, sentence, tone = judged(complete, lower=-0.01, p_holm=0.001)
    assert (answer, tone) == ("Not shown", "open")
    assert "holds zero" in sentence


def test_an_uncorrected_hit_is_a_hint_only(complete: ReportInputs) -> None:
    answer, sentence, tone = judged(complete, p_holm=0.08)
    assert (answer, tone) == ("Not shown", "open")
    assert "hint in favour of dreams and no more" in sentence


def test_few_subjects_are_underpowered_whatever_the_interval(complete: ReportInputs) -> None:
    answer, sentence, tone = judged(complete, p=None, p_holm=None, n_subjects=4)
    assert (answer, tone) == ("Underpowered", "open")
    assert "p =" not in sentence


@pytest.mark.parametrize(("count", "answer"), [(7, "Underpowered"), (8, "Not shown")])
def test_subjects_too_few_for_the_corrected_test_are_underpowered(
    complete: ReportInputs, count: int, answer: str
) -> None:
    """Four comparisons of dreams with networks need eight, however the interval lies."""
    rivals = ("elastic", "classic", "none", "learned")
    wide = {"lower": -0.01, "n_subjects": count}
    rows = [ROW | wide | {"second": rival} for rival in rivals]
    rows.append(ROW | wide | {"first": "learned"})
    statement = against(replace(complete, comparisons=pd.DataFrame(rows)), "elastic", "it")
    assert statement.answer == answer
    assert ("8 are needed" in statement.sentence) == (count < 8)
    alone = pd.DataFrame([ROW | wide | {"second": "atlas"}])
    held = against(replace(complete, comparisons=alone), "atlas", "it")
    assert held.answer == "Not shown"


def test_a_row_the_other_way_round_is_turned(complete: ReportInputs) -> None:
    swapped = judged(
        complete, first="elastic", second="dream", mean_first=0.82, mean_second=0.84,
        difference=-0.02, lower=-0.03, upper=-0.01,
    )  # fmt: skip
    assert swapped == judged(complete)


def test_smaller_distances_are_better(complete: ReportInputs) -> None:
    metric = {"metric": "hd95_mm", "difference": -0.2, "lower": -0.3, "upper": -0.1}
    assert judged(complete, **metric)[0] == "Yes"


def test_one_subject_is_underpowered(complete: ReportInputs) -> None:
    nan = float("nan")
    answer, sentence, _ = judged(complete, p=None, p_holm=None, n_subjects=1, lower=nan, upper=nan)
    assert answer == "Underpowered"
    assert "difference +0.020, too few for an interval, 1 test" in sentence


def test_a_table_that_went_through_a_file_says_the_same(complete: ReportInputs) -> None:
    table = pd.DataFrame([ROW | {"p": None, "p_holm": None, "n_subjects": 4}])
    back = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    first, second = (
        against(replace(complete, comparisons=t), "elastic", "it") for t in (table, back)
    )
    assert first == second
    assert first.answer == "Underpowered"


def test_a_difference_that_is_not_a_number_is_not_measured(complete: ReportInputs) -> None:
    assert judged(complete, difference=float("nan"), n_subjects=0)[0] == "Not measured"


def test_the_best_baseline_is_named(complete: ReportInputs) -> None:
    worse = complete.cases[complete.cases["arm"] == "atlas"].assign(arm="majority", dice=0.1)
    assert best_baseline(complete) == "atlas"
    assert best_baseline(replace(complete, cases=pd.concat([complete.cases, worse]))) == "atlas"
    assert best_baseline(replace(complete, cases=pd.DataFrame())) is None


@pytest.mark.parametrize(
    ("said", "checks", "expected"),
    [
        ("pass", {}, "pass"),
        ("pass", {"folds": "fail"}, "fail"),
        ("pass", {"folds": "not_assessable"}, "not_assessable"),
        ("pass", {"dream_ablation": "fail"}, "pass"),
        ("fail", {}, "fail"),
        ("not_assessable", {}, "not_assessable"),
        ("excellent", {}, "fail"),
    ],
)
def test_the_verdict_fails_closed(
    complete: ReportInputs, said: str, checks: dict[str, str], expected: str
) -> None:
    inputs = replace(complete, verdict=said, checks=to_table(make_checks(**checks)))
    assert overall(inputs) == expected


def test_no_check_is_no_pass(complete: ReportInputs) -> None:
    inputs = replace(complete, verdict="pass", checks=pd.DataFrame())
    assert overall(inputs) == "not_assessable"
    assert "nothing is known" in hallucination(inputs).sentence


def test_the_check_that_decides_is_named(complete: ReportInputs) -> None:
    inputs = replace(complete, verdict="fail", checks=to_table(make_checks(folds="fail")))
    statement = hallucination(inputs)
    assert statement.tone == "bad"
    assert "Check folds failed" in statement.sentence


def test_a_pass_does_not_claim_too_much(complete: ReportInputs) -> None:
    assert "does not prove the absence" in hallucination(complete).sentence


def test_claims_that_do_not_hold_are_said(complete: ReportInputs) -> None:
    checks = to_table(make_checks(dream_ablation="fail"))
    said = claims(replace(complete, checks=checks))
    assert said == (
        "This run does not show that learned dreams are better than random warps (dream_ablation)."
    )
    assert claims(complete) == ""


def test_a_check_that_does_not_apply_is_no_open_claim(complete: ReportInputs) -> None:
    checks = complete.checks.copy()
    claim = checks["severity"] == "claim"
    checks.loc[claim, "verdict"] = "not_assessable"
    assert claims(replace(complete, checks=checks)) != ""
    checks.loc[claim, "verdict"] = "pass"
    topology = checks["name"] == "topology"
    checks.loc[topology, ["severity", "verdict"]] = "claim", "not_assessable"
    checks.loc[topology, "detail"] = "does not apply: the cohort has no labels"
    assert claims(replace(complete, checks=checks)) == ""


def test_canary_a_table_that_lacks_checks_is_no_pass(complete: ReportInputs) -> None:
    one = replace(complete, verdict="pass", checks=complete.checks.iloc[:1])
    assert overall(one) == "fail"
    said = hallucination(one).sentence
    assert "small_n, remove cannot be found among those made, which fails the run" in said
    assert "folds" not in said


def test_canary_a_gate_that_calls_itself_a_claim(complete: ReportInputs) -> None:
    checks = to_table([replace(r, severity="claim") for r in make_checks(remove="fail")])
    inputs = replace(complete, verdict="pass", checks=checks)
    assert overall(inputs) == "fail"
    assert "Check remove failed" in hallucination(inputs).sentence
    assert "remove" not in claims(inputs)


def test_a_run_that_learned_classes_says_what_nobody_asked(classification: ReportInputs) -> None:
    checks = to_table(make_checks(remove="not_assessable"))
    inputs = replace(classification, verdict="not_assessable", checks=checks)
    statement = hallucination(inputs)
    assert (overall(inputs), statement.answer) == ("not_assessable", "Not assessable")
    assert "Check remove could not be assessed. Whether a classifier answers" in statement.sentence
    assert "Of the 10 deciding checks 9 passed." in statement.sentence


@pytest.mark.parametrize("arm", ["learned", "elastic", "classic", "none"])
def test_a_recommended_network_whose_samples_no_check_judged(
    complete: ReportInputs, arm: str
) -> None:
    choice = {"recommended_arm": arm, "choice_reason": "no lead"}
    said = not_of_dreams(replace(complete, choice=choice))
    assert said.startswith("The recommended network was not trained on dreams")
    assert "none of them has judged" in said
    assert ("may lie outside" in said) == (arm == "learned")
    for other in ("dream", "none chosen"):
        assert not_of_dreams(replace(complete, choice=choice | {"recommended_arm": other})) == ""
    assert not_of_dreams(complete) == ""


def test_the_recommended_network_is_named_with_its_reason(complete: ReportInputs) -> None:
    choice = {"recommended_arm": "elastic", "choice_reason": "no lead", "elastic_energy": 2.0}
    found = recommendation(replace(complete, choice=choice))
    assert found is not None
    assert found.answer == "That of random warp"
    assert "no lead" in found.sentence


def test_what_the_test_subjects_say_of_the_recommended_network_is_told(
    complete: ReportInputs,
) -> None:
    choice = {"recommended_arm": "learned", "choice_reason": "no lead", "elastic_energy": 4.0}

    def found(**changes: Any) -> tuple[str, str]:
        table = pd.DataFrame([ROW, ROW | {"first": "learned"} | changes])
        statement = recommendation(replace(complete, choice=choice, comparisons=table))
        assert statement is not None
        return statement.sentence, statement.tone

    sentence, tone = found()
    assert tone == "good"
    assert "0.840 with learned warp, 0.820 with random warp: difference +0.020" in sentence
    assert found(lower=-0.01)[1] == "good"
    worse, tone = found(mean_first=0.81, difference=-0.01, lower=-0.02, upper=-0.005)
    assert "random warps did better" in worse
    assert tone == "open"
    # nothing to tell where the two were not compared
    alone = recommendation(replace(complete, choice=choice, comparisons=pd.DataFrame([ROW])))
    assert alone is not None
    assert "test subjects, which" not in alone.sentence


def test_a_plain_method_that_is_ahead_of_the_recommended_network_is_named(
    complete: ReportInputs,
) -> None:
    choice = {"recommended_arm": "dream", "choice_reason": "no lead", "elastic_energy": 4.0}

    def found(dice: float) -> tuple[str, str]:
        cases = complete.cases.copy()
        cases.loc[cases["arm"] == "dream", "dice"] = dice
        statement = recommendation(replace(complete, choice=choice, cases=cases))
        assert statement is not None
        return statement.sentence, statement.tone

    sentence, tone = found(0.1)
    assert "which needs no network, is ahead of it on the test subjects" in sentence
    assert "against 0.100" in sentence
    assert tone == "open"
    assert "needs no network" not in found(1.0)[0]


def test_the_plain_method_is_ahead_by_the_means_that_arms_are_compared_by(
    complete: ReportInputs,
) -> None:
    """Where a label is rightly absent all score alike, instead of leaving the case out."""
    scores = {"atlas": (0.82, 0.52, 0.82), "dream": (0.80, 0.554, 0.81)}
    rows = []
    for arm, (bone, tumour, bone_alone) in scores.items():
        for k in range(8):
            has = k < 4
            rows.append([arm, f"c{k}", f"s{k}", 1, "bone", bone if has else bone_alone, 9, 9])
            rows.append([arm, f"c{k}", f"s{k}", 2, "tumour", tumour if has else None, has, has])
    names = ["arm", "case", "subject", "label", "label_name", "dice", "volume_ml", "reference_ml"]
    cases = pd.DataFrame(rows, columns=names).assign(seed=0)
    raw = cases.groupby(["arm", "case"])["dice"].mean().groupby("arm").mean()
    assert raw["atlas"] > raw["dream"]
    choice = {"recommended_arm": "dream", "choice_reason": "no lead", "elastic_energy": 4.0}
    statement = recommendation(replace(complete, choice=choice, cases=cases))
    assert statement is not None
    assert "needs no network" not in statement.sentence


def test_nothing_is_recommended_where_nothing_was_chosen(complete: ReportInputs) -> None:
    assert recommendation(complete) is None
    choice = {"recommended_arm": "none chosen", "choice_reason": "", "elastic_energy": 1.0}
    assert recommendation(replace(complete, choice=choice)) is None


def test_a_network_that_the_checks_do_not_promote_is_not_shown_in_green(
    complete: ReportInputs,
) -> None:
    choice = {"recommended_arm": "elastic", "choice_reason": "no lead", "elastic_energy": 2.0}
    good = replace(complete, choice=choice, cases=complete.cases.iloc[:0])
    passed = recommendation(good)
    assert passed is not None
    assert (overall(good), passed.tone) == ("pass", "good")
    failed = recommendation(replace(good, verdict="fail"))
    assert failed is not None
    assert failed.tone == "open"
    assert "The checks do not promote it" in failed.sentence
