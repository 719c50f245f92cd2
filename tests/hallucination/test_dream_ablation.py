from dataclasses import replace

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
    """Six subjects, all better: 2/64 alone is enough, times two comparisons it is not."""
    alone = net_evidence(subjects=6)
    alone = replace(alone, cases=alone.cases[alone.cases["arm"] != "classic"])
    assert dream_ablation(alone, CONFIG).passed
    assert dream_ablation(net_evidence(subjects=6), CONFIG).passed is False


def test_missing_random_arm_fails():
    evidence = replace(net_evidence(), random_arm="nowhere")
    found = dream_ablation(evidence, CONFIG)
    assert found.passed is False
    assert "nowhere" in found.detail


def test_few_subjects_are_underpowered():
    assert dream_ablation(net_evidence(subjects=4), CONFIG).passed is None
