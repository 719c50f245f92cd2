import io
from dataclasses import replace

import pandas as pd
import pytest

from dreamorph.hallucination import (
    EXPECTED,
    CheckResult,
    from_table,
    overall_verdict,
    tags,
    to_table,
)
from dreamorph.hallucination.config import GATES

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


def changed(name, **change):
    return [replace(r, **change) if r.name == name else r for r in results()]


@pytest.mark.parametrize("name", sorted(GATES))
def test_canary_a_gate_that_calls_itself_a_claim(name):
    """Which checks decide is known beforehand, and no row may say otherwise."""
    assert overall_verdict(changed(name, severity="claim", verdict="fail")) == "fail"
    detail = "does not apply: the cohort has no labels"
    row = changed(name, severity="claim", verdict="not_assessable", detail=detail)
    excused = name in ("topology", "cohort_constraint")
    rows = [replace(r, stage="nets") if r.name in EXPECTED["nets"] else r for r in row]
    assert overall_verdict(rows) == ("pass" if excused else "not_assessable")
    assert tags(rows) == {}


def test_canary_a_check_of_labels_that_is_said_to_be_of_another_stage():
    change = {"severity": "claim", "verdict": "not_assessable", "detail": "does not apply: so"}
    assert overall_verdict(changed("topology", stage="nets", **change)) == "not_assessable"


@pytest.mark.parametrize("verdict", ["fail", "pass"])
@pytest.mark.parametrize("name", ["baseline_first", "folds"])
def test_canary_a_verdict_without_a_number(name, verdict):
    rows = changed(name, value=float("nan"), verdict=verdict)
    assert overall_verdict(rows) == "fail"
    assert tags(rows) == {}


def test_a_table_that_went_through_a_file_comes_to_the_same():
    rows = changed("folds", threshold=None, severity="claim", verdict="not_assessable")
    table = pd.read_csv(io.StringIO(to_table(rows).to_csv(index=False)))
    assert overall_verdict(from_table(table)) == overall_verdict(rows) == "not_assessable"
    assert [replace(r, detail="") for r in from_table(table)] == rows
    bare = table[["name", "verdict"]]
    assert overall_verdict(from_table(bare)) == "fail"
