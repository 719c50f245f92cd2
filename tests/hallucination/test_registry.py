import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from dreamorph.hallucination import (
    EXPECTED,
    AuditConfig,
    Finding,
    check,
    overall_verdict,
    run_checks,
    tags,
)
from dreamorph.hallucination.config import GATES, STATED
from dreamorph.hallucination.registry import registered
from tests.hallucination.worlds import net_evidence


def honest(evidence, config):
    return Finding(0.0, 0.0, "0", 5, True)


def crashing(evidence, config):
    raise ZeroDivisionError("division\nof something")


def nan(evidence, config):
    return Finding(math.nan, 0.0, "0", 5, True)


def faked(world, **functions):
    """The register with some functions replaced, and None for a check that is gone."""
    specs = {
        name: replace(spec, function=functions.get(name, honest))
        for name, spec in registered("dreams").items()
        if functions.get(name, honest) is not None
    }
    return {r.name: r for r in run_checks("dreams", world.evidence, world.config, specs)}


@pytest.mark.parametrize("stage", ["dreams", "nets"])
def test_all_expected_checks_are_registered_in_their_order(stage):
    assert tuple(registered(stage)) == EXPECTED[stage]


def test_canary_crashing_check(world):
    results = faked(world, folds=crashing)
    assert results["folds"].verdict == "fail"
    assert "ZeroDivisionError: division" in results["folds"].detail
    assert results["topology"].verdict == "pass"


def test_canary_missing_check(world):
    results = faked(world, provenance=None)
    assert results["provenance"].verdict == "fail"
    assert results["provenance"].severity == "gate"
    assert len(results) == len(EXPECTED["dreams"])


def test_canary_nan_metric(world):
    results = faked(world, two_sample=nan)
    assert results["two_sample"].verdict == "fail"
    assert "failed closed" in results["two_sample"].detail


@pytest.mark.parametrize("change", [{"value": None}, {"n": None}, {"threshold": "much"}])
@pytest.mark.parametrize("passed", [True, False, None])
def test_canary_no_number_where_one_belongs(world, change, passed):
    def odd(evidence, config):
        return replace(Finding(0.0, 0.0, "0", 5, passed), **change)

    results = faked(world, folds=odd)
    assert results["folds"].verdict == "fail"
    assert "raised" in results["folds"].detail
    assert math.isnan(results["folds"].value)
    assert results["topology"].verdict == "pass"


def test_comparisons_of_nets_are_in_the_unit_of_their_metric():
    rows = {r.name: r for r in run_checks("nets", net_evidence(), AuditConfig())}
    assert rows["baseline_first"].unit == rows["dream_ablation"].unit == "Dice"
    assert rows["remove"].unit == "mL"


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="second time"):
        check("folds", stage="dreams", severity="gate", quantity="-", unit="-")(honest)


def test_checks_of_labels_do_not_apply_without_labels(world):
    reals = replace(
        world.evidence.reals, n_labels=0, labels=torch.zeros_like(world.evidence.reals.labels)
    )
    evidence = replace(world.evidence, reals=reals)
    results = {r.name: r for r in run_checks("dreams", evidence, world.config)}
    assert results["topology"].severity == "claim"
    assert results["topology"].verdict == "not_assessable"
    assert results["folds"].verdict == "pass"
    assert results["folds"].severity == "gate"


def test_canary_networks_that_nobody_asked_what_they_draw():
    """A cohort without label maps: nothing can be painted out, so the run is not assessable."""
    evidence = replace(net_evidence(), n_labels=0)
    found = {r.name: r for r in run_checks("nets", evidence, AuditConfig())}
    assert (found["remove"].severity, found["remove"].verdict) == ("gate", "not_assessable")
    assert "no check asks yet whether a classifier answers" in found["remove"].detail
    assert found["small_n"].verdict == "pass"
    assert overall_verdict(found.values(), ["nets"]) == "not_assessable"


def test_a_claim_can_be_made_a_gate_and_no_gate_a_claim():
    config = AuditConfig(severity={"dream_ablation": "gate", "folds": "gate"})
    same = net_evidence(dream=0.84, elastic=0.84)
    for known, severity in ((config, "gate"), (AuditConfig(), "claim")):
        (row,) = (r for r in run_checks("nets", same, known) if r.name == "dream_ablation")
        assert (row.severity, row.verdict) == (severity, "fail")
    with pytest.raises(ValidationError, match="no check named 'two_samples'"):
        AuditConfig(severity={"two_samples": "gate"})


def test_canary_parameters_that_make_a_gate_a_claim(world):
    with pytest.raises(ValidationError, match="which decides in every run"):
        AuditConfig(severity=dict.fromkeys([*GATES, *STATED], "claim"))
    forced = world.config.model_copy(update={"severity": {"folds": "claim"}})
    spec = registered("dreams")["folds"]
    for known in (spec, replace(spec, severity="claim")):
        rows = run_checks("dreams", world.evidence, forced, {"folds": known})
        assert rows[0].severity == "gate"


@pytest.mark.parametrize("function", [crashing, nan])
def test_canary_a_claim_that_could_not_be_computed(function):
    """Not 'not better than plain', which nobody knows: a gate that failed."""
    specs = {
        name: replace(spec, function=function if name == "baseline_first" else honest)
        for name, spec in registered("nets").items()
    }
    found = run_checks("nets", net_evidence(), AuditConfig(), specs)
    row = next(r for r in found if r.name == "baseline_first")
    assert (row.severity, row.verdict) == ("gate", "fail")
    assert tags(found) == {}
    assert overall_verdict(found, ["nets"]) == "fail"


def test_canary_a_random_arm_without_a_number():
    evidence = net_evidence()
    cases = evidence.cases.copy()
    cases.loc[cases["arm"].eq("elastic") & cases["case"].eq("0L"), "dice"] = math.nan
    found = run_checks("nets", replace(evidence, cases=cases), AuditConfig())
    rows = {r.name: r for r in found}
    assert (rows["dream_ablation"].severity, rows["dream_ablation"].verdict) == ("gate", "fail")
    assert rows["small_n"].verdict == "fail"
    assert "dream_ablation" not in tags(found)


def test_honest_world_passes_every_check(world):
    results = run_checks("dreams", world.evidence, world.config)
    assert {r.name: r.verdict for r in results} == dict.fromkeys(EXPECTED["dreams"], "pass")
