"""What a prior is worth: compactness, generalisation, specificity, coverage (Davies 2002)."""

import math

import torch

from dreamorph.prior.config import PriorConfig
from dreamorph.prior.gaussian import MemberGaussian, folds, on_sites
from dreamorph.prior.selection import Candidate, Chosen, Population

#: Directions that carry less of the differences, relative to the largest one, are rounding.
DEPENDENT = 1e-6


def diagnose(
    population: Population, chosen: Chosen, whole: MemberGaussian, config: PriorConfig
) -> dict[str, float]:
    """Numbers about a population and the prior that was chosen for it.

    Returns:
        shrinkage: share of the variance given to the smooth residual.
        localisation_mm: over which the mixture of members varies; not there where it does not.
        compactness_<k>: share of the members' variance that the first k modes carry; k no more
            than there are.
        unexplained: share of a left-out subject's deviation, in mm^2, outside the span of the
            others.
        gain: log density of left-out subjects' values beyond that of a smooth random field of the
            same strength, per value; above zero the members foretell something.
        coverage: mean squared Mahalanobis distance per value of left-out subjects; above one the
            prior is too narrow, below one too wide.
        specificity: distance of a draw to the nearest member, relative to that between members.
    """
    variances = whole.modes()[1]
    share = variances.cumsum(0) / variances.sum()
    result = {"shrinkage": chosen.best.shrinkage, "members": float(len(population.fields))}
    if math.isfinite(chosen.best.length_mm):
        result["localisation_mm"] = chosen.best.length_mm
    for k in sorted({min(k, len(share)) for k in (1, 3, config.modes)}):
        result[f"compactness_{k}"] = float(share[k - 1])
    result["unexplained"] = _unexplained(population, config)
    smooth = chosen.scores[Candidate(math.inf, 1.0)]
    result["gain"] = (chosen.scores[chosen.best] - smooth) / chosen.values
    result["coverage"] = chosen.distances[chosen.best] / chosen.values
    result["specificity"] = _specificity(population, chosen, whole)
    return result


def _unexplained(population: Population, config: PriorConfig) -> float:
    """Mean over left-out fields of the squared length outside the span of those that stay."""
    # as few coordinates as there are members, in which all lengths are the same
    fields = torch.linalg.qr(population.fields.double().flatten(1).T, mode="r").R.T
    left_over = []
    for stay, out in folds(population.subjects, population.classes, config.folds):
        # a mean of some that stay lies among them, so differences span all that deviations do
        _, sizes, axes = torch.linalg.svd(fields[stay[1:]] - fields[stay[0]], full_matrices=False)
        basis = axes[sizes > DEPENDENT * sizes.max()].T
        classes = [population.classes[row] for row in stay]
        for cls, rows in out.items():
            own = [row for row, c in zip(stay, classes, strict=True) if c == cls] or stay
            deviations = fields[rows] - fields[own].mean(0)
            outside = deviations - (deviations @ basis) @ basis.T
            left_over += (outside.square().sum(1) / deviations.square().sum(1)).tolist()
    return sum(left_over) / max(1, len(left_over))


def _specificity(
    population: Population, chosen: Chosen, whole: MemberGaussian, draws: int = 64
) -> float:
    generator = torch.Generator().manual_seed(0)
    drawn = on_sites(torch.stack([whole.sample(generator) for _ in range(draws)]), chosen.sites)
    members = on_sites(population.fields, chosen.sites)
    to_members = torch.cdist(drawn, members).min(dim=1).values.mean()
    between = torch.cdist(members, members) + torch.eye(len(members)) * 1e12
    return float(to_members / between.min(dim=1).values.mean())
