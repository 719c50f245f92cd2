import itertools

import numpy as np
import pytest
from scipy import stats

from dreamorph.hallucination.statistics import (
    holm,
    rate_excess_p,
    rate_upper_bound,
    subject_bootstrap,
    wilcoxon_exact,
)


def test_holm_by_hand():
    # sorted .01 .03 .04: 3 * .01, 2 * .03, then monotone
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_counts_nan_as_no_evidence():
    assert holm([float("nan"), 0.01]) == pytest.approx([1.0, 0.02])


def test_upper_bound_of_no_event_is_the_rule_of_three():
    assert rate_upper_bound(0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert rate_upper_bound(3, 3, 0.95) == 1.0
    assert np.isnan(rate_upper_bound(0, 0, 0.95))


def test_p_and_bound_are_two_sides_of_one_rule():
    bound = rate_upper_bound(2, 14, 0.95)
    assert rate_excess_p(bound, 2, 14) == pytest.approx(0.05)
    assert rate_excess_p(bound, 2, 14) == pytest.approx(stats.binom.cdf(2, 14, bound))


@pytest.mark.parametrize("values", [[1.0, 2, 3, 4, 5, 6], [1.0, -1, 2, 2, -3, 5, 0], [3.0, -4, 5]])
def test_wilcoxon_equals_all_sign_flips(values):
    d = np.array([v for v in values if v])
    ranks = stats.rankdata(np.abs(d))
    signs = np.array(list(itertools.product((0, 1), repeat=len(d))))
    sums, seen = signs @ ranks, ranks[d > 0].sum()
    tail = min((sums <= seen).mean(), (sums >= seen).mean())
    assert wilcoxon_exact(np.array(values)) == pytest.approx(min(1, 2 * tail))


def test_six_subjects_are_the_fewest_that_can_reach_five_percent():
    assert wilcoxon_exact(np.arange(1.0, 7)) == pytest.approx(2 / 64)
    assert wilcoxon_exact(np.arange(1.0, 6)) == pytest.approx(2 / 32)


def test_bootstrap_is_seeded_and_covers_the_mean():
    values = np.random.default_rng(0).normal(1.0, 1.0, 40)
    low, high = subject_bootstrap(values, 0.95, 2000, 0)
    assert (low, high) == subject_bootstrap(values, 0.95, 2000, 0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.15)


def test_bootstrap_of_nan_is_nan():
    assert np.isnan(subject_bootstrap(np.array([1.0, np.nan]), 0.95, 200, 0)).all()
