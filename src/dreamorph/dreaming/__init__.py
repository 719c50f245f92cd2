"""Dreams: real labelled volumes under deformations drawn from a learned prior."""

from dreamorph.dreaming.config import AffineWarpConfig, DreamConfig, ElasticWarpConfig
from dreamorph.dreaming.dreamer import Dreamer
from dreamorph.dreaming.dreams import Dreams, Recipe
from dreamorph.dreaming.samplers import (
    AffineWarps,
    DreamWarps,
    ElasticWarps,
    IdentityWarps,
    LearnedWarps,
    WarpSampler,
)

__all__ = [
    "AffineWarpConfig",
    "AffineWarps",
    "DreamConfig",
    "DreamWarps",
    "Dreamer",
    "Dreams",
    "ElasticWarpConfig",
    "ElasticWarps",
    "IdentityWarps",
    "LearnedWarps",
    "Recipe",
    "WarpSampler",
]
