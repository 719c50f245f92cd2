"""A class-conditional prior over deformations, learned from registered pairs."""

from dreamorph.prior.config import PriorConfig
from dreamorph.prior.deformation_prior import DeformationPrior, Draw
from dreamorph.prior.population import (
    Population,
    connected_groups,
    largest_group,
    population_affines,
    solve_population,
)

__all__ = [
    "DeformationPrior",
    "Draw",
    "Population",
    "PriorConfig",
    "connected_groups",
    "largest_group",
    "population_affines",
    "solve_population",
]
