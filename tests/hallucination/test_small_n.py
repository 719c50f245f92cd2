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
