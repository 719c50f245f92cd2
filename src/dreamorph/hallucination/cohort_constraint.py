"""Check `cohort_constraint`: no implausible anatomy.

Each dream's label volumes, surface areas and centroid distances are held against the 1-99
percentile range of the real cases of all other subjects of its class; so is each real case. What a
case has no label for is no number of it, nor of a dream whose source lacks the label; a label that
a dream has lost is implausible. A prior that varies too little passes here: that is what
`diversity` is for.
"""

import numpy as np

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence, Reals
from dreamorph.hallucination.features import resampled_once, shape_features
from dreamorph.hallucination.ranges import (
    LEAST_DREAMS,
    LEAST_DREAMS_OF_CLASS,
    Outside,
    limits_of,
    outside_rates,
)
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding, not_assessable

RULE = "<= the real left-out subjects' rate (upper bound), in every class"


@check(
    "cohort_constraint",
    stage="dreams",
    severity="gate",
    quantity="dreams outside the real 1-99 percentile of volume, surface or centroid distance",
    unit="%",
    source="FDA ScoreCard, Constraint",
    needs_labels=True,
)
def cohort_constraint(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Share of dreams with any implausible number, against that of left-out real subjects."""
    reals, dreams = evidence.reals, evidence.dreams
    if not len(dreams.labels) or len(set(reals.subjects)) < 2:
        return not_assessable(float("nan"), RULE, 0, "no dream, or fewer than two real subjects")
    table, names = shape_features(dreams.labels, reals.n_labels, reals.spacing_mm)
    real, _ = shape_features(
        resampled_once(reals, config.seed).labels, reals.n_labels, reals.spacing_mm
    )
    own_source, _ = shape_features(reals.labels, reals.n_labels, reals.spacing_mm)
    lacking = np.isnan(own_source)[dreams.source_index.cpu().numpy()]
    source_class = [reals.classes[int(row)] for row in dreams.source_index]
    parts: dict[str | None, Outside] = {}
    for cls in dict.fromkeys(source_class):
        own = np.array([c == cls for c in reals.classes])
        mine = np.array([c == cls for c in source_class])
        parts[cls] = outside_rates(
            real[own],
            [(s,) for s, keep in zip(reals.subjects, own, strict=True) if keep],
            table[mine],
            [s for s, keep in zip(evidence.source_subjects, mine, strict=True) if keep],
            (1.0, 99.0),
            config.confidence,
            lacking[mine],
        )
    return _judge(parts, reals, len(table), config, _worst(names, real, table, lacking))


def _judge(
    parts: dict[str | None, Outside],
    reals: Reals,
    n: int,
    config: AuditConfig,
    worst_feature: str,
) -> Finding:
    worst = max(parts.values(), key=lambda part: np.nan_to_num(part.dreams - part.bound, nan=9.0))
    value, bound = 100 * worst.dreams, 100 * worst.bound
    named = [
        f"{'' if cls is None else f'class {cls}: '}{100 * part.dreams:.1f} % of dreams, "
        f"{100 * part.reals:.1f} % of real (n={part.n_subjects} subjects)"
        for cls, part in parts.items()
    ]
    detail = "; ".join([*named, worst_feature])
    smallest = min(sum(c == cls for c in reals.classes) for cls in parts)
    if smallest < config.min_real_cases:
        why = f"{smallest} real labelled cases, {config.min_real_cases} needed; {detail}"
        return Finding(value, bound, RULE, n, None, why)
    if min(part.n_subjects for part in parts.values()) < config.min_subjects:
        return Finding(value, bound, RULE, n, None, f"too few real subjects; {detail}")
    fewest = min(part.n_dreams for part in parts.values())
    if n < LEAST_DREAMS or fewest < LEAST_DREAMS_OF_CLASS:
        needed = f"{LEAST_DREAMS} needed, {LEAST_DREAMS_OF_CLASS} of each class"
        why = f"{n} dreams, of one class {fewest}; {needed}; {detail}"
        return Finding(value, bound, RULE, n, None, why)
    passed = all(part.dreams <= part.bound for part in parts.values())
    useful = all(part.bound <= config.useful_bound for part in parts.values())
    # above that bound the rule could hardly fail, so a pass would say nothing
    return Finding(value, bound, RULE, n, passed if useful or not passed else None, detail)


def _worst(names: list[str], real: np.ndarray, dreams: np.ndarray, lacking: np.ndarray) -> str:
    """The feature that most dreams have outside the range of all reals."""
    low, high = limits_of(real, (1.0, 99.0))
    inside = (dreams >= low) & (dreams <= high) | np.isnan(dreams) & lacking
    share = (~inside).mean(axis=0)
    top = int(share.argmax())
    return f"most often {names[top]} ({100 * share[top]:.1f} % outside the range of all real)"
