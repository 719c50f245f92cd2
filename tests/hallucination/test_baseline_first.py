from dataclasses import replace

import numpy as np
import pytest

from dreamorph.hallucination.baseline_first import baseline_first
from tests.hallucination.worlds import AuditConfig, net_evidence

CONFIG = AuditConfig()


def test_a_better_net_passes():
    found = baseline_first(net_evidence(dream=0.86, plain=0.80), CONFIG)
    assert found.passed
    assert found.value == pytest.approx(0.06, abs=0.005)
    assert found.n == 10


def test_canary_net_worse_than_plain():
    found = baseline_first(net_evidence(dream=0.78, plain=0.80), CONFIG)
    assert found.passed is False
    assert "not better than plain" in found.detail


def test_canary_one_lucky_subject():
    """A mean above the baseline that a single subject carries."""
    scores = np.full(10, 0.795)
    scores[0] = 0.99
    found = baseline_first(net_evidence(dream=scores, plain=0.80), CONFIG)
    assert found.value > 0
    assert found.passed is False


def test_canary_an_interval_that_the_exact_test_does_not_confirm():
    """Five of six subjects a little better, one a little worse: p = 4/64."""
    scores = np.array([0.83, 0.84, 0.85, 0.86, 0.87, 0.791])
    found = baseline_first(net_evidence(dream=scores, plain=0.80, subjects=6), CONFIG)
    assert found.passed is False
    assert "[+0.0" in found.detail
    assert "p = 0.0625; not better than plain" in found.detail


def test_canary_the_recommended_network_is_worse_than_plain():
    """The network that the run tells people to use has to be better, not only that of dreams."""
    evidence = replace(
        net_evidence(dream=0.86, plain=0.80, learned=0.70), judged_arms=("dream", "learned")
    )
    found = baseline_first(evidence, CONFIG)
    assert found.passed is False
    assert found.value == pytest.approx(-0.1, abs=0.005)
    assert found.detail.endswith("not better than plain: learned")
    better = net_evidence(dream=0.86, plain=0.80, learned=0.85)
    assert baseline_first(replace(better, judged_arms=("dream", "learned")), CONFIG).passed


def test_canary_nan_metric():
    evidence = net_evidence()
    cases = evidence.cases.copy()
    cases.loc[3, "dice"] = np.nan
    found = baseline_first(replace(evidence, cases=cases), CONFIG)
    assert found.passed is False
    assert "not finite" in found.detail


def test_canary_hard_cases_left_out():
    evidence = net_evidence()
    cases = evidence.cases[~evidence.cases["case"].isin(["0L"])]
    found = baseline_first(replace(evidence, cases=cases), CONFIG)
    assert found.passed is False
    assert "one table only" in found.detail


def test_many_cases_of_few_subjects_are_underpowered():
    found = baseline_first(net_evidence(subjects=5), CONFIG)
    assert found.passed is None
    assert "underpowered" in found.detail


def test_without_an_interval_nothing_is_said():
    """Three subjects have none, even if so few were allowed."""
    config = CONFIG.model_copy(update={"min_test_subjects": 3})
    found = baseline_first(net_evidence(dream=0.9, plain=0.8, subjects=3), config)
    assert found.passed is None
    assert "too few for an interval" in found.detail
    assert "nan" not in found.detail


def test_canary_less_confidence_than_a_claim_has():
    """Of the bounds of gates less confidence asks more, of a claim it would ask less."""
    scores = np.array([0.83, 0.84, 0.85, 0.86, 0.87, 0.791])
    evidence = net_evidence(dream=scores, plain=0.80, subjects=6)
    found = baseline_first(evidence, AuditConfig(confidence=0.9))
    assert found == baseline_first(evidence, CONFIG)
    assert "p < 0.05" in found.rule


def test_missing_arm_fails():
    assert baseline_first(replace(net_evidence(), arm="other"), CONFIG).passed is False
