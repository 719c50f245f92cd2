"""Check `baseline_first`: is the deep net needed at all?"""

from dreamorph.hallucination.comparisons import arm_results, paired_difference
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence
from dreamorph.hallucination.registry import THE_METRIC, check
from dreamorph.hallucination.result import Finding

RULE = "lower end of the subject bootstrap interval > 0"


@check(
    "baseline_first",
    stage="nets",
    severity="claim",
    quantity="mean difference per subject, net - plain baseline",
    unit=THE_METRIC,
    source="plain methods first",
)
def baseline_first(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """The judged arm against the plain baseline on the same test cases."""
    net = arm_results(evidence, evidence.arm)
    found = paired_difference(net, evidence.baseline, evidence.metric, config)
    if found.problem:
        return Finding(found.mean, 0.0, RULE, found.n, False, found.problem)
    detail = f"{evidence.arm} - plain: {found} {evidence.metric}"
    if found.n < config.min_test_subjects:
        why = f"underpowered: {found.n} test subjects; {detail}"
        return Finding(found.mean, 0.0, RULE, found.n, None, why)
    better = found.low > 0
    detail += f", exact Wilcoxon p = {found.p:.3g}" + ("" if better else "; not better than plain")
    return Finding(found.mean, 0.0, RULE, found.n, better, detail)
