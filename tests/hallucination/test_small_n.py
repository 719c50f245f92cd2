from dataclasses import replace

import pytest

from dreamorph.hallucination.small_n import small_n
from tests.hallucination.worlds import AuditConfig, net_evidence


@pytest.mark.parametrize(("subjects", "passed"), [(1, None), (5, None), (6, True), (12, True)])
def test_subjects_count_not_cases(subjects, passed):
    """Two sides, two labels and two seeds a subject are still one subject."""
    found = small_n(net_evidence(subjects=subjects), AuditConfig())
    assert found.passed is passed
    assert found.value == subjects


def test_no_result_fails():
    assert small_n(replace(net_evidence(), arm="none of these"), AuditConfig()).passed is False


def test_scores_that_are_missing_or_not_numbers_fail():
    """No test can be done with them, however many subjects there are."""
    evidence = net_evidence()
    spoiled = evidence.cases.assign(dice=float("nan"))
    found = small_n(replace(evidence, cases=spoiled), AuditConfig())
    assert found.passed is False
    assert "not finite" in found.detail
    last = evidence.cases["case"].iloc[-1]
    mine = evidence.cases["arm"] == evidence.arm
    fewer = evidence.cases[~(mine & (evidence.cases["case"] == last))]
    found = small_n(replace(evidence, cases=fewer), AuditConfig())
    assert found.passed is False
    assert "in one table only" in found.detail


@pytest.mark.parametrize("arm", ["dream", "learned", "elastic"])
@pytest.mark.parametrize("fault", ["gone", "nan", "subject", "one seed"])
def test_canary_faults_in_any_network_that_is_judged(arm, fault):
    """The recommended one and random warps as well as that of dreams."""
    evidence = replace(net_evidence(learned=0.85), judged_arms=("dream", "learned"))
    assert small_n(evidence, AuditConfig()).passed
    cases, mine = evidence.cases.copy(), evidence.cases["arm"] == arm
    spoiled = mine & (cases["case"] == "3R")
    if fault == "gone":
        cases = cases[~mine]
    elif fault == "one seed":
        cases = cases[~(spoiled & (cases["seed"] == 1))]
    else:
        cases.loc[spoiled, "dice" if fault == "nan" else "subject"] = None
    found = small_n(replace(evidence, cases=cases), AuditConfig())
    assert found.passed is False
    assert f"{arm}: " in found.detail


@pytest.mark.parametrize("column", ["subject", "case"])
def test_canary_results_that_nobody_owns(column):
    """Left out alike by a network and by the plain method, they would go unseen."""
    evidence = net_evidence()

    def nameless(table):
        return table.assign(**{column: table[column].mask(table["case"] == "3R")})

    spoiled = replace(
        evidence, cases=nameless(evidence.cases), baseline=nameless(evidence.baseline)
    )
    found = small_n(spoiled, AuditConfig())
    assert found.passed is False
    assert "without a subject or a case" in found.detail
