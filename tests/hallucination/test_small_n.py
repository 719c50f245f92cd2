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
