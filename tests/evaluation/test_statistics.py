import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dreamorph.evaluation import (
    bootstrap_interval,
    compare_arms,
    holm,
    paired,
    subject_means,
    wilcoxon_exact,
)


def table(**arms: list[float]) -> pd.DataFrame:
    rows = [
        {"arm": arm, "subject": f"s{i}", "case": f"c{i}", "label": 1, "dice": value}
        for arm, values in arms.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def by_enumeration(differences: list[float]) -> float:
    """All 2^n signs, counted one by one."""
    values = np.array([d for d in differences if d])
    ranks = stats.rankdata(np.abs(values))
    observed = ranks[values > 0].sum()
    sums = np.array(
        [
            sum(r for r, s in zip(ranks, signs, strict=True) if s)
            for signs in itertools.product((0, 1), repeat=len(ranks))
        ]
    )
    return min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


@pytest.mark.parametrize("count", [6, 9, 20, 95])
def test_wilcoxon_is_scipys_where_there_are_no_ties(count):
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert wilcoxon_exact(differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "differences",
    [[1, 1, 1, 1, 1, 1], [1, -1, 2, 2, 3, -3, 4], [0, 0, 1, 2, 3, 4, 5, 6], [1, -1, 1, -1]],
)
def test_wilcoxon_with_ties_and_zeros_is_counted_out(differences):
    assert wilcoxon_exact(np.array(differences, float)) == pytest.approx(
        by_enumeration(differences)
    )


def test_six_subjects_all_better():
    """2 / 2^6, the smallest p-value six subjects can give."""
    assert wilcoxon_exact(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)


def test_no_difference_at_all():
    assert wilcoxon_exact(np.zeros(8)) == 1.0


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_interval_holds_the_mean_and_narrows():
    rng = np.random.default_rng(0)
    widths = []
    for count in (8, 80):
        values = rng.normal(1.0, 1.0, count)
        low, high = bootstrap_interval(values, np.random.default_rng(1))
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[1] < 0.7 * widths[0]


def test_interval_covers_as_often_as_it_says():
    """About 95 of 100 intervals from 25 normal values hold the true mean."""
    rng = np.random.default_rng(5)
    intervals = [bootstrap_interval(rng.normal(size=25), rng) for _ in range(100)]
    assert 87 <= sum(low <= 0 <= high for low, high in intervals) <= 99


def test_interval_without_spread_or_values():
    rng = np.random.default_rng(0)
    assert bootstrap_interval(np.full(7, 0.25), rng) == (0.25, 0.25)
    for few in ([1.0], [1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]):
        assert np.isnan(bootstrap_interval(np.array(few), rng)).all()


def test_cases_of_a_subject_are_one_observation():
    """Three cases and two labels of one subject weigh as much as one case of another."""
    rows = [("a", "c1", 1, 0.2), ("a", "c1", 2, 0.4), ("a", "c2", 1, 0.6), ("b", "c3", 1, 1.0)]
    cases = pd.DataFrame(rows, columns=["subject", "case", "label", "dice"]).assign(arm="x")
    means = subject_means(cases, "dice")
    # Subject a: case c1 (0.2 + 0.4) / 2, case c2 0.6; together 0.45.
    assert means.loc["a", "x"] == pytest.approx(0.45)
    assert means.loc["b", "x"] == 1.0


def test_comparison_of_arms():
    better = [0.8, 0.82, 0.84, 0.86, 0.81, 0.83]
    worse = [b - d for b, d in zip(better, (0.01, 0.02, 0.03, 0.04, 0.05, 0.06), strict=True)]
    found = compare_arms(table(dream=better, elastic=worse), [("dream", "elastic")]).iloc[0]
    assert found["n_subjects"] == 6
    assert found["difference"] == pytest.approx(0.035)
    assert 0 < found["lower"] < 0.035 < found["upper"]
    assert found["p"] == found["p_holm"] == pytest.approx(2 / 64)
    assert found["note"] == ""


def test_same_seed_same_interval():
    arms = table(a=[0.1, 0.4, 0.2, 0.5, 0.9, 0.3, 0.8], b=[0.2, 0.2, 0.2, 0.3, 0.4, 0.1, 0.9])
    one, two = (compare_arms(arms, [("a", "b")], seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_five_subjects_are_underpowered():
    found = compare_arms(
        table(dream=[0.9] * 5, elastic=[0.1, 0.2, 0.3, 0.4, 0.5]), [("dream", "elastic")]
    ).iloc[0]
    assert found["p"] is None
    assert found["p_holm"] is None
    assert found["note"].startswith("underpowered: 5 subjects")
    assert found["lower"] < found["difference"] < found["upper"]


def test_only_common_subjects_are_compared():
    arms = table(a=[0.5, 0.6, float("nan"), 0.7], b=[0.4, 0.5, 0.9])
    found = compare_arms(arms, [("a", "b")]).iloc[0]
    assert found["n_subjects"] == 2
    assert found["difference"] == pytest.approx(0.1)


def test_an_unknown_arm_gives_an_empty_comparison():
    found = compare_arms(table(a=[0.5] * 7), [("a", "b")]).iloc[0]
    assert found["n_subjects"] == 0
    assert np.isnan(found["difference"])
    assert found["p"] is None


def test_holm_counts_only_comparisons_with_a_p_value():
    values = [0.5, 0.6, 0.7, 0.8, 0.9, 0.55]
    arms = table(
        a=values,
        b=[v - d for v, d in zip(values, (0.1, 0.11, 0.12, 0.13, 0.14, 0.15), strict=True)],
        c=[0.1, 0.2],
    )
    found = compare_arms(arms, [("a", "b"), ("a", "c")])
    assert found["p_holm"][0] == found["p"][0] == pytest.approx(2 / 64)
    assert found["p_holm"][1] is None


def test_zeros_are_reported():
    arms = table(a=[0.5] * 7, b=[0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.6])
    assert compare_arms(arms, [("a", "b")])["note"][0] == "2 of 7 tied"


def test_rounding_neither_makes_a_difference_nor_breaks_a_tie() -> None:
    """Means over three seeds of 0 or 1 by class weights: equal numbers need not be equal floats."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        weights = rng.choice([2 / 3, 2.0], size=8)
        right = rng.integers(2, size=(2, 3, 8))
        means = (right * weights).mean(axis=1)
        exact = (right.sum(axis=1)[0] - right.sum(axis=1)[1]) * (weights > 1).astype(int) * 2
        exact = exact + (right.sum(axis=1)[0] - right.sum(axis=1)[1])
        assert wilcoxon_exact(paired(*means)) == wilcoxon_exact(exact)
    assert wilcoxon_exact(paired(np.full(6, 0.1 + 0.2), np.full(6, 0.3))) == 1.0
    assert np.abs(paired(np.array([0.9]), np.array([0.8999]))[0] - 1e-4) < 1e-8
    assert np.isnan(paired(np.array([np.nan]), np.array([1.0]))).all()
    # two arms that come to the same by other ways are tied in the table as well
    same = compare_arms(table(a=[0.1 + 0.2] * 7, b=[0.3] * 7), [("a", "b")])
    assert same.loc[0, "note"] == "7 of 7 tied"
