"""Check `small_n`: a mean over a handful of subjects may be luck."""

from dreamorph.hallucination.comparisons import arm_results, paired_difference
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
    """Whether there are enough test subjects for any paired test to say something."""
    needed = config.min_test_subjects
    rule = f">= {needed}"
    judged = arm_results(evidence, evidence.arm)
    n = int(judged["subject"].nunique())
    if n == 0:
        why = f"no result of the arm {evidence.arm!r}"
        return Finding(0.0, needed, rule, 0, False, why)
    if judged["subject"].isna().any():
        return Finding(float("nan"), needed, rule, n, False, "results without a subject")
    if n < needed:
        smallest = 2.0 ** (1 - n)
        why = f"underpowered: with {n} subjects the smallest possible exact p is {smallest:.3g}"
        return Finding(n, needed, rule, n, None, why)
    found = paired_difference(judged, evidence.baseline, evidence.metric, config)
    if found.problem:
        return Finding(n, needed, rule, n, False, found.problem)
    detail = f"net - plain {found}, exact Wilcoxon p = {found.p:.3g}"
    return Finding(n, needed, rule, n, True, detail)
