from dataclasses import replace

import pytest

from dreamorph.hallucination import EXPECTED, CheckResult, overall_verdict, tags

NAMES = (*EXPECTED["dreams"], *EXPECTED["nets"])
CLAIMS = ("baseline_first", "dream_ablation")


def results(**verdicts):
    template = CheckResult("", "dreams", "gate", "q", "-", 0.0, None, "r", 1, "pass", "", "-")
    return [
        replace(
            template,
            name=name,
            severity="claim" if name in CLAIMS else "gate",
            verdict=verdicts.get(name, "pass"),
        )
        for name in NAMES
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({}, "pass"),
        ({"folds": "fail"}, "fail"),
        ({"small_n": "not_assessable"}, "not_assessable"),
        ({"small_n": "not_assessable", "remove": "fail"}, "fail"),
        ({"baseline_first": "fail"}, "pass"),
        ({"dream_ablation": "not_assessable"}, "pass"),
        ({"folds": "maybe"}, "fail"),
    ],
)
def test_verdict(verdicts, expected):
    assert overall_verdict(results(**verdicts)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_canary_each_missing_check_fails_the_run(name):
    assert overall_verdict([r for r in results() if r.name != name]) == "fail"


def test_nothing_at_all_fails():
    assert overall_verdict([]) == "fail"


def test_one_stage_alone():
    dreams = [r for r in results() if r.name in EXPECTED["dreams"]]
    assert overall_verdict(dreams, ["dreams"]) == "pass"


def test_tags():
    assert tags(results(baseline_first="fail")) == {"baseline_first": "not better than plain"}
    assert tags(results()) == {}


def test_a_claim_that_could_not_be_judged_is_not_called_wrong():
    found = tags(results(baseline_first="not_assessable", dream_ablation="fail"))
    assert found == {
        "baseline_first": "could not be judged",
        "dream_ablation": "not better than random warps",
    }


def test_a_check_that_does_not_apply_is_no_claim_that_failed():
    rows = [
        replace(r, severity="claim", verdict="not_assessable", detail="does not apply: no labels")
        if r.name == "remove"
        else r
        for r in results()
    ]
    assert tags(rows) == {}
