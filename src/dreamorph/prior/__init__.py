"""A class-conditional prior over deformations, learned from registered pairs."""

from dreamorph.prior.config import PriorConfig
from dreamorph.prior.deformation_prior import DeformationPrior
from dreamorph.prior.population import population_affines, population_fields

__all__ = ["DeformationPrior", "PriorConfig", "population_affines", "population_fields"]
