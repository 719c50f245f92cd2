"""Results on disk that a run of later steps alone would put side by side."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from dreamorph.errors import StaleError
from dreamorph.pipelines import current
from dreamorph.pipelines.current import (
    check_results,
    check_verdict,
    mark_of_plan,
    mark_of_scores,
)


def cohort_of(mark: str) -> Any:
    return SimpleNamespace(fingerprint=lambda: mark)


def prior_of(mark: str) -> Any:
    return SimpleNamespace(fingerprint=mark)


FILES = pd.DataFrame({"split": ["train", "test"], "label_content": ["one", "two"]})
DREAMS = pd.DataFrame({"key": ["dream_1-x", "dream_2-y"]})
SCORES = ["elastic-0-a-mark", "dream-0-b-mark"]
PLAIN = ["atlas-c1-mark"]
CHOICE = {"arm": "elastic", "energies": {"elastic": 1.0}}


@pytest.fixture
def whole() -> dict[str, Any]:
    """What a run of all steps leaves."""
    cohort, prior = cohort_of("volumes"), prior_of("prior")
    plan = pd.DataFrame({"arm": ["elastic", "dream"], "key": ["elastic-0-a", "dream-0-b"]})
    return {
        "cohort": cohort,
        "case_table": FILES,
        "prior": prior,
        "dream_table": DREAMS,
        "choice": CHOICE,
        "plan": plan.assign(made_of=mark_of_plan(cohort, prior, DREAMS, CHOICE)),
        "scores": dict.fromkeys(SCORES),
        "plain": dict.fromkeys(PLAIN),
        "results": {"made_of": mark_of_scores(cohort, FILES, SCORES, PLAIN)},
    }


def test_what_a_run_of_all_steps_leaves_belongs_together(whole: dict[str, Any]) -> None:
    mark = check_results(**whole)
    verdict = {"verdict": "pass", "judged": mark}
    assert check_verdict(verdict, **whole) == verdict


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # --pipelines dream with another seed, then audit
        ({"dream_table": DREAMS.assign(key=["dream_3-x", "dream_4-y"])}, "planned for other"),
        # ingest of changed volumes, then audit
        ({"cohort": cohort_of("others")}, "planned for other"),
        # --pipelines prior with another parameter, then report
        ({"prior": prior_of("other")}, "planned for other"),
        # --pipelines tune with other energies or labels, then report
        ({"choice": CHOICE | {"energies": {"elastic": 4.0}}}, "planned for other"),
        # --pipelines train with other parameters, then audit
        ({"scores": dict.fromkeys(["elastic-0-a-mark", "dream-0-c-mark"])}, "arm dream was tr"),
        # a label corrected by less than the common grid shows
        ({"case_table": FILES.assign(label_content=["one", "new"])}, "tables of results are of"),
        # evaluation stopped before its tables were made
        ({"scores": dict.fromkeys(["elastic-0-a-new", "dream-0-b-new"])}, "tables of results"),
        ({"plain": dict.fromkeys(["atlas-c1-new"])}, "tables of results are of"),
        # left by an older version
        ({"results": {}}, "tables of results are of"),
    ],
)
def test_what_does_not_belong_together_is_not_judged(
    whole: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(StaleError, match=said):
        check_results(**(whole | change))
    with pytest.raises(StaleError, match=said):
        check_verdict({"verdict": "pass", "judged": check_results(**whole)}, **(whole | change))


def test_a_plan_of_an_older_version_is_not_judged(whole: dict[str, Any]) -> None:
    plan = whole["plan"].drop(columns="made_of")
    with pytest.raises(StaleError, match="or by an older version: run all steps again"):
        check_results(**(whole | {"plan": plan}))


@pytest.mark.parametrize("verdict", [{"verdict": "pass"}, {"verdict": "pass", "judged": "other"}])
def test_a_verdict_on_something_else_is_not_shown(
    whole: dict[str, Any], verdict: dict[str, str]
) -> None:
    with pytest.raises(StaleError, match="the verdict is of other volumes, networks or dreams"):
        check_verdict(verdict, **whole)


def test_canary_a_verdict_by_earlier_rules_is_not_shown(
    whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that has changed since would show its former result as today's."""
    verdict = {"verdict": "pass", "judged": check_results(**whole)}
    monkeypatch.setattr(current, "RULES", current.RULES + 1)
    with pytest.raises(StaleError, match="or by an older version: run --pipelines audit,report"):
        check_verdict(verdict, **whole)


def test_training_volumes_labels_do_not_say_what_scores_are_of() -> None:
    """Networks learned from them are others anyway."""
    marks = {
        mark_of_scores(cohort_of("same"), FILES.assign(label_content=[train, "two"]), [], [])
        for train in ("one", "other")
    }
    assert len(marks) == 1
