"""Check `small_n`: a mean over a handful of subjects may be luck."""

from dreamorph.hallucination.comparisons import Difference, arm_results, paired_difference
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding


@check(
    "small_n",
    stage="nets",
    severity="gate",
    quantity="test subjects",
    unit="subjects",
    source="Metrics Reloaded 2024; exact Wilcoxon needs six pairs to reach p < 0.05",
)
def small_n(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """Whether there are enough test subjects for any paired test to say something.

    Of every network that is judged, and of the random warps that dreams are held against. Results
    of any of them that cannot be compared fail, however many subjects there are.
    """
    needed = config.min_test_subjects
    rule = f">= {needed}"
    found = _against_plain(evidence, config)
    n = min(one.n for one in found.values())
    if problems := [f"{arm}: {one.problem}" for arm, one in found.items() if one.problem]:
        return Finding(n, needed, rule, n, False, "; ".join(problems))
    if n < needed:
        smallest = 2.0 ** (1 - n)
        why = f"underpowered: with {n} subjects the smallest possible exact p is {smallest:.3g}"
        return Finding(n, needed, rule, n, None, why)
    parts = [f"{arm} - plain {one}, exact Wilcoxon p = {one.p:.3g}" for arm, one in found.items()]
    return Finding(n, needed, rule, n, True, "; ".join(parts))


def _against_plain(evidence: NetEvidence, config: AuditConfig) -> dict[str, Difference]:
    arms = dict.fromkeys([evidence.arm, *evidence.judged_arms, evidence.random_arm])
    return {
        arm: paired_difference(
            arm_results(evidence, arm), evidence.baseline, evidence.metric, config
        )
        for arm in arms
    }
