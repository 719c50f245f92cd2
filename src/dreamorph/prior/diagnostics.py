"""What a prior is worth: compactness, generalisation, specificity, coverage (Davies 2002)."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dreamorph.prior.config import PriorConfig
from dreamorph.prior.gaussian import ShrunkGaussian, fit_class, left_out


def diagnose(
    points: torch.Tensor,
    subjects: Sequence[str],
    classes: Sequence[str | None],
    config: PriorConfig,
    shrinkage: float,
) -> dict[str, float]:
    """Numbers about a population of whitened points `(N, M)`.

    Returns:
        shrinkage: share of the variance given to the smooth residual.
        compactness_<k>: share of the members' variance that the first k modes carry.
        unexplained: share of a left-out subject's deviation outside the span of the others.
        coverage: mean squared Mahalanobis distance per dimension of left-out subjects; above one
            the prior is too narrow, below one too wide.
        specificity: distance of a draw to the nearest member, relative to that between members.
    """
    whole = fit_class(points, [None] * len(points), None, config.class_pooling)
    share = whole.variances.cumsum(0) / whole.variances.sum()
    result = {"shrinkage": shrinkage, "members": float(len(points))}
    for k in (1, 3, config.modes):
        result[f"compactness_{k}"] = float(share[min(k, len(share)) - 1])
    unexplained, coverage = [], []
    for rest, kept, row, cls in left_out(points, subjects, classes):
        gaussian = replace(fit_class(rest, kept, cls, config.class_pooling), shrinkage=shrinkage)
        centred = row - gaussian.mean
        along = gaussian.modes @ centred
        unexplained.append(1 - float((along**2).sum() / (centred**2).sum()))
        coverage.append(float(gaussian.mahalanobis(row[None])) / points.shape[1])
    result["unexplained"] = sum(unexplained) / len(unexplained)
    result["coverage"] = sum(coverage) / len(coverage)
    result["specificity"] = _specificity(points, replace(whole, shrinkage=shrinkage))
    return result


def _specificity(points: torch.Tensor, gaussian: ShrunkGaussian, draws: int = 64) -> float:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(draws, len(gaussian.variances), generator=generator, dtype=points.dtype)
    noise = torch.randn(draws, points.shape[1], generator=generator, dtype=points.dtype)
    drawn = gaussian.mean + gaussian.deviation(scores, noise)
    to_members = torch.cdist(drawn, points).min(dim=1).values.mean()
    between = torch.cdist(points, points) + torch.eye(len(points)) * 1e12
    return float(to_members / between.min(dim=1).values.mean())
