"""Choose how local and how smooth a prior is by the likelihood of subjects left out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dreamorph.errors import PriorError
from dreamorph.prior.config import PriorConfig
from dreamorph.prior.gaussian import (
    MemberGaussian,
    Residual,
    centre_by_class,
    choose_sites,
    fit_class,
    folds,
    on_sites,
)
from dreamorph.prior.localisation import Localisation

#: Share of the population's variance under which members that stay count as one and the same.
LEAST_VARIANCE = 1e-9


@dataclass(frozen=True)
class Population:
    """The fields a prior is learned from.

    Attributes:
        fields: `(N, ndim, *coarse)` mm.
        subjects: whom each shows.
        classes: class of each, None where unknown.
        residual: smooth deformation with their spectrum.
    """

    fields: torch.Tensor
    subjects: Sequence[str]
    classes: Sequence[str | None]
    residual: Residual


class Candidate(NamedTuple):
    """One setting: length of the localisation, share of the residual."""

    length_mm: float
    shrinkage: float


@dataclass(frozen=True)
class Chosen:
    """The setting under which left-out subjects are likeliest.

    Attributes:
        best: that setting.
        scores: log density of all left-out values under every setting.
        distances: sum of their squared Mahalanobis distances.
        values: how many values were left out in all.
        sites: the sub-grid on which fields were compared.
    """

    best: Candidate
    scores: dict[Candidate, float]
    distances: dict[Candidate, float]
    values: int
    sites: tuple[torch.Tensor, ...]


def choose(population: Population, config: PriorConfig) -> Chosen:
    """Score every setting on subjects left out in turn, at a few sites of the grid.

    Folds whose remaining members do not differ teach nothing and are passed over.

    Raises:
        PriorError: no fold leaves enough subjects to learn from.
    """
    basis = population.residual.basis
    sites = choose_sites(basis, config.sites)
    edge = math.prod(basis.extent_mm) ** (1 / len(basis.extent_mm))
    lengths = [math.inf, *(share * edge for share in config.localisations)]
    scores: dict[Candidate, float] = {}
    distances: dict[Candidate, float] = {}
    values = 0
    centred = centre_by_class(population.fields, population.classes).double()
    least = LEAST_VARIANCE * float(centred.square().sum(1).mean())
    for stay, out in folds(population.subjects, population.classes, config.folds):
        classes = [population.classes[row] for row in stay]
        for cls, rows in out.items():
            points = on_sites(population.fields[rows], sites)
            mean, factor = fit_class(population.fields[stay], classes, cls, config.class_pooling)
            if float(factor.double().square().sum((0, 1)).mean()) <= least:
                continue
            values += points.numel()
            for length in lengths:
                taper = Localisation.of_length(basis.shape, basis.extent_mm, length)
                gaussian = MemberGaussian(mean, factor, population.residual, taper, 0.0).at(sites)
                for shrinkage in (*config.shrinkages, 1.0):
                    key = Candidate(length, shrinkage)
                    density = float(gaussian.log_density(points, shrinkage).sum())
                    distance = float(gaussian.mahalanobis(points, shrinkage).sum())
                    scores[key] = scores.get(key, 0.0) + density
                    distances[key] = distances.get(key, 0.0) + distance
    if not values:
        raise PriorError(
            "no subject can be left out: a prior needs three volumes of two subjects, and two that "
            "differ among those that stay"
        )
    allowed = [key for key in scores if key.shrinkage < 1.0]
    best = max(allowed, key=lambda key: scores[key])
    return Chosen(best, scores, distances, values, sites)
