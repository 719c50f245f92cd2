"""Check `dream_ablation`: does the learned prior beat chance?"""

from dreamorph.evaluation.statistics import FEWEST_RESAMPLED
from dreamorph.hallucination.comparisons import LEVEL, Difference, arm_results, paired_difference
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence
from dreamorph.hallucination.registry import THE_METRIC, check
from dreamorph.hallucination.result import Finding
from dreamorph.hallucination.statistics import fewest_subjects, holm

RULE = "dream - random warps: lower end of the subject bootstrap interval > 0 and Holm p < {:g}"


@check(
    "dream_ablation",
    stage="nets",
    severity="claim",
    quantity="mean difference per subject, dream - random warps",
    unit=THE_METRIC,
    source="Hauberg et al. 2016; Lee, Sabuncu & Dalca 2019",
)
def dream_ablation(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """The judged arm against every other arm; the rule concerns random warps.

    The p-values of these comparisons are corrected by Holm, as one family. With so few subjects
    that no corrected p could be small enough, nothing is said.
    """
    judged = arm_results(evidence, evidence.arm)
    others = [arm for arm in dict.fromkeys(evidence.cases["arm"]) if arm != evidence.arm]
    found = {
        arm: paired_difference(judged, arm_results(evidence, arm), evidence.metric, config)
        for arm in others
    }
    rule = RULE.format(LEVEL)
    random = found.get(evidence.random_arm)
    if random is None:
        why = f"no arm {evidence.random_arm!r} to compare with"
        return Finding(float("nan"), 0.0, rule, 0, False, why)
    if problems := [f"{arm}: {d.problem}" for arm, d in found.items() if d.problem]:
        return Finding(float("nan"), 0.0, rule, random.n, False, "; ".join(problems))
    adjusted = dict(zip(found, holm([d.p for d in found.values()]), strict=True))
    needed = max(config.min_test_subjects, FEWEST_RESAMPLED, fewest_subjects(len(found), LEVEL))
    if random.n < needed:
        why = (
            f"underpowered: {random.n} test subjects, {needed} needed for {len(found)} "
            f"comparisons; {_differences(found, evidence.arm)}"
        )
        return Finding(random.mean, 0.0, rule, random.n, None, why)
    detail = _differences(found, evidence.arm, adjusted)
    better = random.low > 0 and adjusted[evidence.random_arm] < LEVEL
    if not better:
        detail += "; not better than random warps"
    return Finding(random.mean, 0.0, rule, random.n, better, detail)


def _differences(
    found: dict[str, Difference], judged: str, adjusted: dict[str, float] | None = None
) -> str:
    """In words; without p-values where none could be small enough."""
    parts = [f"{judged} - {arm}: {difference}" for arm, difference in found.items()]
    if adjusted is None:
        return "; ".join(parts)
    parts = [f"{part}, p = {adjusted[arm]:.3g}" for part, arm in zip(parts, found, strict=True)]
    return f"{'; '.join(parts)}; p by Holm over these {len(found)}"
