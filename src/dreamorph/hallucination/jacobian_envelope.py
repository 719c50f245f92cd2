"""Check `jacobian_envelope`: no growth or shrinkage that real pairs do not show.

The gate keeps out every dream beyond the full range of the real pairs. The check then asks more of
what is left: dreams may crowd the tails of that range no more often than left-out real subjects do,
so it can fail even where the gate has done its work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from dreamorph.errors import DreamError
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import PAIR_COLUMNS, DreamEvidence, Reals
from dreamorph.hallucination.jacobian import measure_foldings
from dreamorph.hallucination.ranges import LEAST_DREAMS, Outside, outside_rates
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding, not_assessable
from dreamorph.spatial import SpatialTransform

RULE = "<= the real left-out subjects' rate (upper bound), for Jacobian and for label volumes"


@dataclass(frozen=True)
class Envelope:
    """Full range over real pairs: of log det J and, per label, of the log volume ratio."""

    log_jacobian: tuple[float, float]
    log_ratio: np.ndarray
    """`(2, n_labels)`: smallest and largest."""


def pair_jacobians(
    transforms: SpatialTransform,
    fixed_masks: torch.Tensor,
    fixed_subjects: Sequence[str],
    moving_subjects: Sequence[str],
) -> pd.DataFrame:
    """The columns PAIR_COLUMNS for registered pairs, measured as dreams are.

    Args:
        transforms: B maps from the fixed to the moving grid, affine included.
        fixed_masks: `(B, 1, *shape)`.
        fixed_subjects, moving_subjects: B names.
    """
    found = measure_foldings(transforms, fixed_masks)
    rows = [
        (fixed, moving, folding.log_min, folding.log_max)
        for fixed, moving, folding in zip(fixed_subjects, moving_subjects, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def label_volumes(labels: torch.Tensor, n_labels: int) -> np.ndarray:
    """Voxels of each label 1..n, `(B, n_labels)`, of integers `(B, 1, *shape)`."""
    flat = labels.reshape(len(labels), -1).cpu().numpy()
    counts = [np.bincount(row, minlength=n_labels + 1)[1 : n_labels + 1] for row in flat]
    return np.array(counts, float).reshape(len(labels), n_labels)


def log_ratios(volumes: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """log(volume / reference); 0 where both are empty, NaN where only one is."""
    both_empty = (volumes == 0) & (reference == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(volumes / reference)
    return np.where(both_empty, 0.0, np.where(np.isfinite(ratio), ratio, np.nan))


def fit_envelope(reals: Reals, pairs: pd.DataFrame) -> Envelope:
    """Full range over the real pairs.

    A label that no two real cases show has no range: it may not grow or shrink at all.

    Raises:
        DreamError: no usable pair, or real cases of one subject only.
    """
    jacobians = finite_jacobians(pairs)
    if not len(jacobians):
        raise DreamError(
            f"pairs: expected at least one registered real pair without folds, got {len(pairs)} "
            "pairs and none usable; register more pairs or lower the registration's freedom"
        )
    ratios, owners = _real_ratios(reals)
    if reals.n_labels and not owners:
        raise DreamError(
            "real cases: expected labelled cases of at least two subjects of one class for the "
            f"range of label volumes, got {len(set(reals.subjects))} subjects, each of a class of "
            "its own; raise split.train_subjects"
        )
    ratios = np.where(np.isnan(ratios).all(axis=0), 0.0, ratios)
    log_ratio = (
        np.stack([np.nanmin(ratios, axis=0), np.nanmax(ratios, axis=0)])
        if len(ratios)
        else np.zeros((2, reals.n_labels))
    )
    low, high = jacobians["log_jacobian_min"].min(), jacobians["log_jacobian_max"].max()
    return Envelope((float(low), float(high)), log_ratio)


def inside_envelope(
    envelope: Envelope, log_min: float, log_max: float, log_ratio: np.ndarray
) -> bool:
    """Whether one dream lies within the full range of the real pairs; NaN does not."""
    low, high = envelope.log_jacobian
    jacobian = log_min >= low and log_max <= high
    ratios = (log_ratio >= envelope.log_ratio[0]) & (log_ratio <= envelope.log_ratio[1])
    return bool(jacobian and ratios.all())


@check(
    "jacobian_envelope",
    stage="dreams",
    severity="gate",
    quantity="dreams outside the real pairs' range of log det J or label volume ratio",
    unit="%",
)
def jacobian_envelope(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Share of dreams outside the real 95 % range, against the rate of left-out real subjects."""
    reals, dreams = evidence.reals, evidence.dreams
    found = evidence.foldings
    extremes = np.array([(f.log_min, f.log_max) for f in found]).reshape(-1, 2)
    pairs = finite_jacobians(evidence.pairs)
    owners = list(zip(pairs["fixed_subject"], pairs["moving_subject"], strict=True))
    rates = partial(
        outside_rates,
        sources=evidence.source_subjects,
        confidence=config.confidence,
    )
    # a gentler warp than the real ones is no fault here (see `diversity`): open on that side
    away = np.array([-1.0, 1.0])
    real_extremes = pairs.iloc[:, 2:4].to_numpy(float) * away
    parts = {"log det J": rates(real_extremes, owners, extremes * away, percentiles=(None, 97.5))}
    if reals.n_labels:
        index = dreams.source_index.cpu().numpy()
        source = label_volumes(reals.labels, reals.n_labels)[index]
        volumes = label_volumes(dreams.labels, reals.n_labels)
        absent = (volumes == 0) & (source == 0)
        ratios = np.where(absent, np.nan, log_ratios(volumes, source))
        real, ratio_owners = _real_ratios(reals, absent=np.nan)
        limits: tuple[float, float] = (2.5, 97.5)
        parts["label volume"] = rates(
            real, ratio_owners, ratios, percentiles=limits, excused=absent, whole=True
        )
    worst = max(parts.values(), key=lambda part: np.nan_to_num(part.dreams - part.bound, nan=9.0))
    detail = _describe(parts, extremes, evidence)
    n_subjects = min(part.n_subjects for part in parts.values())
    if not len(found) or n_subjects < config.min_subjects:
        why = f"{n_subjects} real subjects, {config.min_subjects} needed; {detail}"
        return not_assessable(100 * worst.dreams, RULE, len(found), why)
    if len(found) < LEAST_DREAMS:
        why = f"{len(found)} dreams, {LEAST_DREAMS} needed; {detail}"
        return not_assessable(100 * worst.dreams, RULE, len(found), why)
    passed = all(part.dreams <= part.bound for part in parts.values())
    # above this bound the rule could hardly fail, so a pass would say nothing
    useful = all(part.bound <= config.useful_bound for part in parts.values())
    verdict = passed if useful or not passed else None
    return Finding(100 * worst.dreams, 100 * worst.bound, RULE, len(found), verdict, detail)


def finite_jacobians(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of two different subjects that do not fold."""
    table = pairs.loc[pairs["fixed_subject"] != pairs["moving_subject"], list(PAIR_COLUMNS)]
    values = table[["log_jacobian_min", "log_jacobian_max"]].to_numpy(float)
    return table[np.isfinite(values).all(axis=1)]


def _real_ratios(reals: Reals, absent: float = 0.0) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Log volume ratios of every ordered pair of cases of different subjects and one class.

    `absent` stands for a label that both lack. As 0 it would be the commonest ratio of all where a
    label is rare, and leave no room for those that have it.
    """
    volumes = label_volumes(reals.labels, reals.n_labels)
    rows: list[np.ndarray] = []
    owners: list[tuple[str, ...]] = []
    for i, subject in enumerate(reals.subjects):
        for j, other in enumerate(reals.subjects):
            if subject != other and reals.classes[i] == reals.classes[j]:
                neither = (volumes[i] == 0) & (volumes[j] == 0)
                rows.append(np.where(neither, absent, log_ratios(volumes[i], volumes[j])))
                owners.append((subject, other))
    return np.array(rows).reshape(len(rows), reals.n_labels), owners


def _describe(parts: dict[str, Outside], extremes: np.ndarray, evidence: DreamEvidence) -> str:
    shares = [
        f"{name}: {100 * part.dreams:.1f} % of dreams, {100 * part.reals:.1f} % of real "
        f"(n={part.n_subjects}, bound {100 * part.bound:.1f} %)"
        for name, part in parts.items()
    ]
    if len(extremes):
        low, high = extremes[:, 0].min(), extremes[:, 1].max()
        shares.append(f"log det J {low:.2f}..{high:.2f}")
    if evidence.rejection_note:
        shares.append(evidence.rejection_note)
    return "; ".join(shares)
