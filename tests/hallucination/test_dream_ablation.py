from dataclasses import replace

import numpy as np
import pytest

from dreamorph.hallucination.dream_ablation import dream_ablation
from tests.hallucination.worlds import AuditConfig, net_evidence

CONFIG = AuditConfig()


def test_a_prior_that_helps_passes():
    found = dream_ablation(net_evidence(dream=0.86, elastic=0.84), CONFIG)
    assert found.passed
    assert "dream - classic" in found.detail


def test_canary_prior_no_better_than_chance():
    found = dream_ablation(net_evidence(dream=0.84, elastic=0.84), CONFIG)
    assert found.passed is False
    assert "not better than random warps" in found.detail


def test_p_values_are_corrected_for_the_number_of_arms():
    """Eight subjects, the worst of them by far the least: p = .016, times four it is .0625."""
    scores = np.full(8, 0.9)
    scores[0] = 0.805
    four = net_evidence(
        dream=scores, elastic=0.84, subjects=8, classic=0.8395, none=0.838, learned=0.839
    )
    alone = replace(four, cases=four.cases[four.cases["arm"].isin(["dream", "elastic"])])
    assert dream_ablation(alone, CONFIG).passed
    assert dream_ablation(four, CONFIG).passed is False


@pytest.mark.parametrize(("comparisons", "enough"), [(1, 6), (2, 7), (4, 8)])
def test_subjects_too_few_for_the_number_of_arms_are_underpowered(comparisons, enough):
    """All better, by a lot: it fails at no number of subjects, but may not be assessable."""
    arms = ["elastic", "classic", "none", "learned"][:comparisons]

    def found(subjects):
        evidence = net_evidence(dream=0.95, elastic=0.5, subjects=subjects, none=0.3, learned=0.4)
        cases = evidence.cases[evidence.cases["arm"].isin(["dream", *arms])]
        return dream_ablation(replace(evidence, cases=cases), CONFIG)

    assert found(enough).passed
    few = found(enough - 1)
    assert few.passed is None
    assert f"underpowered: {enough - 1} test subjects, {enough} needed" in few.detail
    assert "not better" not in few.detail
    assert "p = " not in few.detail


def test_missing_random_arm_fails():
    evidence = replace(net_evidence(), random_arm="nowhere")
    found = dream_ablation(evidence, CONFIG)
    assert found.passed is False
    assert "nowhere" in found.detail


def test_few_subjects_are_underpowered():
    assert dream_ablation(net_evidence(subjects=4), CONFIG).passed is None
