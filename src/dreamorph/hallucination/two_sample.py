"""Check `two_sample`: a classifier should not tell dreams from real volumes.

A dream carries its source's contrast and texture, so it belongs to its source's group: folds are
grouped by source subject, and a classifier is only ever tested on subjects it has not seen. Within
a group, if dreams are as good as real, it is chance which volumes are the real ones: the bound is
the 95th percentile of the AUC when "real" and "dream" are exchanged at random within each group.

The features (coarse picture, label shapes, and their squares, so that shapes exaggerated to both
sides are seen) do not resolve the blur of one interpolation, and reals are interpolated once too.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import scipy
import torch

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import DreamEvidence, Reals
from dreamorph.hallucination.features import population_features, resampled_once
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding

RULE = "<= 95th percentile with real and dream exchanged within each source's group"
_MAX_FOLDS = 5
#: Penalty per case on standardised features.
_RIDGE = 0.3
#: Standard normal quantile for 80 % power.
_POWER_80 = 0.8416


@check(
    "two_sample",
    stage="dreams",
    severity="gate",
    quantity="AUC of a classifier of dreams against reals, folds grouped by source subject",
    unit="AUC",
    source="Lopez-Paz & Oquab 2017",
)
def two_sample(evidence: DreamEvidence, config: AuditConfig) -> Finding:
    """Classifier two-sample test with grouped folds and a grouped permutation bound."""
    chosen = _choose(evidence, config)
    groups_of_dreams = [evidence.source_subjects[i] for i in chosen]
    used = set(groups_of_dreams)
    reals = _rows(evidence.reals, [i for i, s in enumerate(evidence.reals.subjects) if s in used])
    n = len(reals.cases) + len(chosen)
    if len(used) < config.min_subjects:
        why = f"{len(used)} source subjects, {config.min_subjects} needed for grouped folds"
        return Finding(float("nan"), None, RULE, n, None, why)
    dreams = _as_reals(evidence, chosen)
    real, dreamt = population_features(
        resampled_once(reals, config.seed), config.two_sample_components, dreams
    )
    table = np.concatenate([real, dreamt])
    table = np.concatenate([table, table**2 - 1], axis=1)
    groups = np.array(reals.subjects + groups_of_dreams)
    truth = np.repeat([0, 1], [len(real), len(dreamt)])
    generator = np.random.default_rng(config.seed)
    shuffles = [exchanged(truth, groups, generator) for _ in range(config.two_sample_permutations)]
    found = grouped_auc(table, np.stack([truth, *shuffles], axis=1), groups)
    auc, null = float(found[0]), found[1:]
    return _judge(auc, null, len(used), n, config)


def grouped_auc(table: np.ndarray, truths: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """AUC of held-out scores of a ridge-penalised linear discriminant, no group in both parts.

    Least squares on targets n/n1 and -n/n0 points along Fisher's discriminant whatever the balance
    of the classes, and serves all permutations at once. The AUC is taken within each fold and
    averaged over folds: scores of two fits are not comparable.

    Args:
        table: `(n, features)`, standardised.
        truths: `(n, permutations)` of 0 and 1.
        groups: `(n,)` names.

    Returns:
        `(permutations,)`, NaN where no fold held both kinds.
    """
    folds = []
    for train, test in _folds(groups):
        ones = truths[train].sum(axis=0)
        n = int(train.sum())
        targets = np.where(
            truths[train] == 1, n / np.maximum(ones, 1), -n / np.maximum(n - ones, 1)
        )
        centre = table[train].mean(axis=0)
        x = table[train] - centre
        ridge = _RIDGE * n * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + ridge, x.T @ (targets - targets.mean(axis=0)))
        folds.append(_auc((table[test] - centre) @ weights, truths[test]))
    found = np.array(folds)
    usable = np.isfinite(found)
    total = np.where(usable, found, 0.0).sum(axis=0)
    return np.asarray(
        np.where(usable.any(axis=0), total / np.maximum(usable.sum(axis=0), 1), np.nan)
    )


def _auc(scores: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, by ranks; NaN for columns of one kind only."""
    ones = truths.sum(axis=0)
    zeros = len(truths) - ones
    sums = (scipy.stats.rankdata(scores, axis=0) * truths).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((sums - ones * (ones + 1) / 2) / (ones * zeros))


def exchanged(truth: np.ndarray, groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The labels shuffled within each group."""
    shuffled = truth.copy()
    for group in dict.fromkeys(groups):
        own = np.nonzero(groups == group)[0]
        shuffled[own] = truth[generator.permutation(own)]
    return shuffled


def _judge(auc: float, null: np.ndarray, subjects: int, n: int, config: AuditConfig) -> Finding:
    null = null[np.isfinite(null)]
    if not len(null):
        return Finding(auc, None, RULE, n, None, "no fold held both real and dreamt volumes")
    bound = float(np.percentile(null, 100 * config.confidence))
    p = (1 + int((null >= auc).sum())) / (1 + len(null))
    detectable = bound + _POWER_80 * float(null.std())
    detail = (
        f"p = {p:.3f}; {subjects} source subjects; smallest AUC found with 80 % power "
        f"{min(detectable, 1.0):.2f}{' or none' if detectable > 1 else ''}"
    )
    if np.isfinite(auc) and auc > bound:
        return Finding(auc, bound, RULE, n, False, detail)
    powerful = detectable <= config.two_sample_detectable_auc
    passed = None if np.isfinite(auc) and not powerful else bool(np.isfinite(auc))
    return Finding(auc, bound, RULE, n, passed, detail if powerful else f"underpowered: {detail}")


def _choose(evidence: DreamEvidence, config: AuditConfig) -> list[int]:
    """Rows of a random few dreams of each source subject, so that none outweighs the others."""
    generator = np.random.default_rng(config.seed)
    chosen: list[int] = []
    subjects = np.array(evidence.source_subjects, object)
    for subject in dict.fromkeys(evidence.source_subjects):
        own = np.nonzero(subjects == subject)[0]
        few = min(len(own), config.two_sample_dreams_per_subject)
        chosen += sorted(generator.choice(own, few, replace=False).tolist())
    return chosen


def _folds(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    names = list(dict.fromkeys(groups.tolist()))
    for fold in range(min(_MAX_FOLDS, len(names))):
        test = np.isin(groups, names[fold::_MAX_FOLDS])
        yield ~test, test


def _rows(reals: Reals, rows: list[int]) -> Reals:
    return replace(
        reals,
        images=reals.images[rows],
        labels=reals.labels[rows],
        masks=reals.masks[rows],
        cases=[reals.cases[i] for i in rows],
        subjects=[reals.subjects[i] for i in rows],
        classes=[reals.classes[i] for i in rows],
    )


def _as_reals(evidence: DreamEvidence, rows: list[int]) -> Reals:
    """Dreams in the form of reals, so that both are measured by the same code."""
    dreams, index = evidence.dreams, torch.tensor(rows)
    return replace(
        evidence.reals,
        images=dreams.images[index].cpu(),
        labels=dreams.labels[index].cpu(),
        masks=dreams.masks[index].cpu(),
        cases=[dreams.recipes[i].dream for i in rows],
        subjects=[evidence.source_subjects[i] for i in rows],
        classes=[dreams.recipes[i].cls for i in rows],
    )
