"""Check `diversity`: dreams differ from one another as much as real volumes do.

Two dreams of one source share its texture, so images are compared between different sources. The
shape, however, comes from the prior: the labels of any two dreams should overlap no more than those
of two real subjects, over the labels that both of a pair have. Dreams of one source share its pose,
so they are held against real subjects whose pose and size an affine registration has taken away.
Coverage asks whether each real subject has dreams *of other subjects* in its neighbourhood. Copies
of other subjects lie in it as well, so it finds a prior that collapsed and no copies: these overlap
one another more than real subjects do, and stretch and shrink next to nothing, which registered
real pairs do not (strength).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence, Reals
from dreamorph.hallucination.features import population_features, resampled_once
from dreamorph.hallucination.jacobian_envelope import finite_jacobians
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding
from dreamorph.hallucination.similarity import label_overlap, ms_ssim
from dreamorph.hallucination.statistics import leave_out_groups

_BATCH = 8
Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Part:
    """One of the conditions the check consists of."""

    name: str
    value: float
    limit: float
    at_most: bool

    @property
    def ok(self) -> bool:
        """NaN is not ok."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{self.name} {self.value:.3f} (rule {sign} {self.limit:.3f})"


@check(
    "diversity",
    stage="dreams",
    severity="gate",
    quantity="mean MS-SSIM of two dreams of different sources",
    unit="1",
    source="Naeem et al. 2020 (density, coverage); Wang et al. 2003 (MS-SSIM)",
)
def diversity(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Similarity of images and of labels, and coverage, against real-against-real."""
    rule = (
        "<= real + margin, at most halfway to identity; label overlap likewise; coverage >= "
        "expected - margin; range of log det J >= a share of real pairs'"
    )
    dreams, subjects = evidence.dreams, evidence.source_subjects
    reals = resampled_once(evidence.reals, config.seed)
    n, n_subjects = len(subjects), len(set(reals.subjects))
    if n < 4 or n_subjects < config.min_subjects or len(set(subjects)) < 2:
        why = f"{n} dreams of {len(set(subjects))} subjects, {n_subjects} real subjects"
        return Finding(float("nan"), None, rule, n, None, f"too few: {why}")
    generator = np.random.default_rng(config.seed)
    real_pairs = _pairs(reals.subjects, True, config.diversity_pairs, generator)
    apart = _pairs(subjects, True, config.diversity_pairs, generator)
    together = _pairs(subjects, False, config.diversity_pairs, generator)
    span = _span(reals)
    real_ssim = _ssim(reals.images, reals.masks, real_pairs, span)
    dream_ssim = float(_ssim(dreams.images, dreams.masks, apart, span).mean())
    real_mean = _real_limit(real_ssim, real_pairs, reals.subjects)
    limit = _raised(real_mean, config.diversity_ssim_margin)
    strength = _strength(evidence, config)
    parts = [Part("MS-SSIM", dream_ssim, limit, True), strength]
    if reals.n_labels:
        parts += _overlaps(evidence, reals, (real_pairs, apart, together), config)
    elif together:
        parts.append(
            Part("spread", _spread(evidence, together), config.diversity_min_spread, False)
        )
    coverage, density = _coverage(evidence, reals, config)
    detail = "; ".join([*map(str, parts), str(coverage), f"density {density:.2f}"])
    if not together:
        return Finding(dream_ssim, limit, rule, n, None, f"one dream per subject only; {detail}")
    everything = [*parts, coverage]
    if np.isnan(strength.limit) and all(part.ok for part in everything if part is not strength):
        return Finding(dream_ssim, limit, rule, n, None, f"too few registered pairs; {detail}")
    return Finding(dream_ssim, limit, rule, n, all(part.ok for part in everything), detail)


def _overlaps(
    evidence: DreamEvidence, reals: Reals, pairs: tuple[Pairs, Pairs, Pairs], config: AuditConfig
) -> list[Part]:
    real_pairs, apart, together = pairs
    real = _overlap(reals.labels, real_pairs, reals.n_labels)
    margin = config.diversity_overlap_margin
    limit = _raised(_real_limit(real, real_pairs, reals.subjects), margin)
    posed = float(np.fmax(limit, _raised(_aligned_limit(evidence.pairs), margin)))
    labels = evidence.dreams.labels
    parts = []
    for name, chosen, bound in (("two sources", apart, limit), ("one source", together, posed)):
        found = _known(_overlap(labels, chosen, reals.n_labels))
        if len(found):
            parts.append(Part(f"label overlap, {name}", float(found.mean()), bound, True))
        elif chosen and not np.isnan(bound):  # real ones have labels in common, dreams none
            parts.append(Part(f"label overlap, {name}", float("nan"), bound, True))
    return parts


def _raised(real: float, margin: float) -> float:
    """What dreams may come to: some more than real ones, never so much that copies would do."""
    return min(real + margin, (1 + real) / 2)


def _strength(evidence: DreamEvidence, config: AuditConfig) -> Part:
    """How far log det J ranges in a dream, against registered pairs; the median of each.

    Warps that do next to nothing are as unlike one another as strong ones, relative to their size:
    only what real pairs show says what is little.
    """
    ranges = [found.log_max - found.log_min for found in evidence.foldings]
    pairs = finite_jacobians(evidence.pairs)
    real = (pairs["log_jacobian_max"] - pairs["log_jacobian_min"]).to_numpy(float)
    owners = list(zip(pairs["fixed_subject"], pairs["moving_subject"], strict=True))
    medians = _without_each(real, owners, np.median)
    least = config.diversity_min_strength * min(medians, default=float("nan"))
    return Part("strength", float(np.median(ranges)), least, False)


def _without_each(
    values: np.ndarray,
    owners: Sequence[tuple[str, ...]],
    middle: Callable[[np.ndarray], np.floating[Any]],
) -> list[float]:
    """A mean or median of what is left when any one subject's values are left out."""
    subjects = sorted({subject for pair in owners for subject in pair})
    kept = [np.array([subject not in pair for pair in owners]) for subject in subjects]
    return [float(middle(values[keep])) for keep in kept if keep.any()]


def _aligned_limit(pairs: pd.DataFrame) -> float:
    """Label overlap of registered real pairs after their affine step; NaN where not known."""
    if "dice_affine" not in pairs:
        return float("nan")
    known = pairs[
        pairs["dice_affine"].notna() & (pairs["fixed_subject"] != pairs["moving_subject"])
    ]
    values = known["dice_affine"].to_numpy(float)
    owners = list(zip(known["fixed_subject"], known["moving_subject"], strict=True))
    return max(_without_each(values, owners, np.mean), default=float("nan"))


def _spread(evidence: DreamEvidence, pairs: Pairs) -> float:
    """Median over pairs of RMS(u_a - u_b) / RMS(u), of displacements u within the mask."""
    transforms, masks = evidence.dreams.transforms, evidence.dreams.masks
    ratios = []
    for a, b in pairs:
        first, second = transforms[[a, b]].displacement().cpu()
        inside = (masks[a, 0] | masks[b, 0]).cpu()
        size = (first.square().sum(0) + second.square().sum(0))[inside].mean() / 2
        apart = (first - second).square().sum(0)[inside].mean()
        ratios.append(float((apart / size).sqrt()) if size > 0 else 0.0)
    return float(np.median(ratios))


def _coverage(evidence: DreamEvidence, reals: Reals, config: AuditConfig) -> tuple[Part, float]:
    """Coverage and density, each real subject against dreams of other subjects only."""
    dreams = evidence.dreams
    as_reals = replace(
        reals,
        images=dreams.images.cpu(),
        labels=dreams.labels.cpu(),
        masks=dreams.masks.cpu(),
        cases=[recipe.dream for recipe in dreams.recipes],
        subjects=evidence.source_subjects,
        classes=[recipe.cls for recipe in dreams.recipes],
    )
    # shape and place rather than contrast, which a dream owes to its source
    keep = 0 if reals.n_labels else config.two_sample_components
    real, dreamt = population_features(reals, keep, as_reals)
    own, other = np.array(reals.subjects, object), np.array(as_reals.subjects, object)
    k = min(5, len(set(reals.subjects)) - 1)
    covered, density, expected = [], [], []
    for row, subject in zip(real, own, strict=True):
        to_real = np.sort(np.linalg.norm(real[own != subject] - row, axis=1))
        to_dream = np.linalg.norm(dreamt[other != subject] - row, axis=1)
        radius = to_real[min(k, len(to_real)) - 1]
        inside = int((to_dream <= radius).sum())
        covered.append(inside > 0)
        density.append(inside / (k * max(len(to_dream), 1)) * len(to_real))
        expected.append(_expected_coverage(len(to_real), len(to_dream), k))
    limit = max(0.0, float(np.mean(expected)) - config.diversity_coverage_margin)
    return Part("coverage", float(np.mean(covered)), limit, False), float(np.mean(density))


def _expected_coverage(reals: int, dreams: int, k: int) -> float:
    """Chance that a dream of the same distribution lies among the k nearest of `reals` others.

    All the dreams are farther than the k-th real with probability prod (R - i) / (R + D - i).
    """
    missed = 1.0
    for i in range(min(k, reals)):
        missed *= (reals - i) / (reals + dreams - i)
    return 1 - missed


def _pairs(
    groups: Sequence[str], different: bool, budget: int, generator: np.random.Generator
) -> Pairs:
    """Random pairs of rows of different groups, or of one."""
    every = [
        (i, j)
        for i in range(len(groups))
        for j in range(i + 1, len(groups))
        if (groups[i] != groups[j]) is different
    ]
    if len(every) <= budget:
        return every
    return [every[i] for i in sorted(generator.choice(len(every), budget, replace=False))]


def _ssim(images: torch.Tensor, masks: torch.Tensor, pairs: Pairs, span: float) -> np.ndarray:
    found = [torch.zeros(0)]
    for start in range(0, len(pairs), _BATCH):
        a, b = map(list, zip(*pairs[start : start + _BATCH], strict=True))
        weight = (masks[a] | masks[b]).float().cpu()
        found.append(ms_ssim(images[a].float().cpu(), images[b].float().cpu(), weight, span))
    return torch.cat(found).numpy()


def _overlap(labels: torch.Tensor, pairs: Pairs, n_labels: int) -> np.ndarray:
    if not pairs:
        return np.zeros(0)
    a, b = map(list, zip(*pairs, strict=True))
    return label_overlap(labels[a].cpu(), labels[b].cpu(), n_labels).numpy()


def _known(values: np.ndarray) -> np.ndarray:
    """Without NaN: pairs that have no label in common."""
    return np.asarray(values[~np.isnan(values)])


def _real_limit(values: np.ndarray, pairs: Pairs, subjects: Sequence[str]) -> float:
    """Largest mean over pairs when any one subject is left out."""
    owners = [(subjects[a], subjects[b]) for a, b in pairs]

    def mean(keep: np.ndarray) -> float:
        left = {s for s, k in zip(subjects, keep, strict=True) if k}
        chosen = [v for v, o in zip(values, owners, strict=True) if set(o) <= left]
        known = _known(np.array(chosen))
        return float(known.mean()) if len(known) else float("nan")

    means = _known(np.array(list(leave_out_groups(mean, subjects).values())))
    return float(means.max()) if len(means) else float("nan")


def _span(reals: Reals) -> float:
    inside = reals.images[reals.masks].double().numpy()
    if not len(inside):
        return 0.0
    low, high = np.percentile(inside, [0.5, 99.5])
    # a small structure in a binary volume lies beyond both percentiles
    return float(high - low if high > low else np.ptp(inside))
