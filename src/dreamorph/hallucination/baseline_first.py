"""Check `baseline_first`: is the deep net needed at all?"""

from dreamorph.evaluation.statistics import FEWEST_RESAMPLED
from dreamorph.hallucination.comparisons import LEVEL, Difference, arm_results, paired_difference
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence
from dreamorph.hallucination.registry import THE_METRIC, check
from dreamorph.hallucination.result import Finding
from dreamorph.hallucination.statistics import fewest_subjects

RULE = "lower end of the subject bootstrap interval > 0 and exact Wilcoxon p < {:g}"


@check(
    "baseline_first",
    stage="nets",
    severity="claim",
    quantity="mean difference per subject, net - plain baseline",
    unit=THE_METRIC,
    source="plain methods first",
)
def baseline_first(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """Each judged arm against the plain baseline on the same test cases; the worst decides.

    The interval alone is too narrow for few subjects, so the exact test has to agree. All of the
    arms have to be better, so their p-values want no correction.
    """
    found = {
        arm: paired_difference(
            arm_results(evidence, arm), evidence.baseline, evidence.metric, config
        )
        for arm in dict.fromkeys([evidence.arm, *evidence.judged_arms])
    }
    rule = RULE.format(LEVEL)
    if problems := [f"{arm}: {d.problem}" for arm, d in found.items() if d.problem]:
        nan = float("nan")
        n = min(d.n for d in found.values())
        return Finding(nan, 0.0, rule, n, False, "; ".join(problems))
    needed = max(config.min_test_subjects, FEWEST_RESAMPLED, fewest_subjects(1, LEVEL))
    worst = min(found.values(), key=lambda one: one.mean)
    if worst.n < needed:
        shown = _describe(found, evidence.metric, False)
        why = f"underpowered: {worst.n} test subjects, {needed} needed; {shown}"
        return Finding(worst.mean, 0.0, rule, worst.n, None, why)
    detail = _describe(found, evidence.metric, True)
    short = [arm for arm, one in found.items() if not (one.low > 0 and one.p < LEVEL)]
    if short:
        others = f": {', '.join(short)}" if len(found) > 1 else ""
        detail += f"; not better than plain{others}"
    return Finding(worst.mean, 0.0, rule, worst.n, not short, detail)


def _describe(found: dict[str, Difference], metric: str, with_p: bool) -> str:
    return "; ".join(
        f"{arm} - plain: {one} {metric}" + (f", exact Wilcoxon p = {one.p:.3g}" if with_p else "")
        for arm, one in found.items()
    )
