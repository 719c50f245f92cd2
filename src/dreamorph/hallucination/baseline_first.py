"""Check `baseline_first`: is the deep net needed at all?"""

from dreamorph.evaluation.statistics import FEWEST_RESAMPLED
from dreamorph.hallucination.comparisons import arm_results, paired_difference
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence
from dreamorph.hallucination.registry import THE_METRIC, check
from dreamorph.hallucination.result import Finding
from dreamorph.hallucination.statistics import fewest_subjects

RULE = "lower end of the subject bootstrap interval > 0 and exact Wilcoxon p < 0.05"


@check(
    "baseline_first",
    stage="nets",
    severity="claim",
    quantity="mean difference per subject, net - plain baseline",
    unit=THE_METRIC,
    source="plain methods first",
)
def baseline_first(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """The judged arm against the plain baseline on the same test cases.

    The interval alone is too narrow for few subjects, so the exact test has to agree.
    """
    net = arm_results(evidence, evidence.arm)
    found = paired_difference(net, evidence.baseline, evidence.metric, config)
    if found.problem:
        return Finding(found.mean, 0.0, RULE, found.n, False, found.problem)
    detail = f"{evidence.arm} - plain: {found} {evidence.metric}"
    level = 1 - config.confidence
    needed = max(config.min_test_subjects, FEWEST_RESAMPLED, fewest_subjects(1, level))
    if found.n < needed:
        why = f"underpowered: {found.n} test subjects, {needed} needed; {detail}"
        return Finding(found.mean, 0.0, RULE, found.n, None, why)
    better = found.low > 0 and found.p < level
    detail += f", exact Wilcoxon p = {found.p:.3g}" + ("" if better else "; not better than plain")
    return Finding(found.mean, 0.0, RULE, found.n, better, detail)
