import numpy as np
import pytest

from dreamorph.hallucination.statistics import (
    fewest_subjects,
    holm,
    rate_upper_bound,
)


def test_holm_by_hand():
    # sorted .01 .03 .04: 3 * .01, 2 * .03, then monotone
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_counts_nan_as_no_evidence():
    assert holm([float("nan"), 0.01]) == pytest.approx([1.0, 0.02])


def test_fewest_subjects_by_hand():
    # 2 / 2^6 = .031; twice that is .0625, so two comparisons take 2 * 2 / 2^7
    assert [fewest_subjects(m, 0.05) for m in (1, 2, 3, 4)] == [6, 7, 7, 8]
    # not "at most": 1 / 2^4 does not do at a level of 1 / 2^4
    assert fewest_subjects(1, 1 / 16) == 6


def test_upper_bound_of_no_event_is_the_rule_of_three():
    assert rate_upper_bound(0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert rate_upper_bound(3, 3, 0.95) == 1.0
    assert np.isnan(rate_upper_bound(0, 0, 0.95))
