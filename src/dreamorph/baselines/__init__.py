"""Plain methods that a trained network has to beat."""

from dreamorph.baselines.atlas import Atlases, FusionConfig, fuse, local_correlation
from dreamorph.baselines.shape_classifier import (
    ShapeClassifier,
    ShapeClassifierConfig,
    fit_shape_classifier,
)
from dreamorph.baselines.shape_features import shape_features

__all__ = [
    "Atlases",
    "FusionConfig",
    "ShapeClassifier",
    "ShapeClassifierConfig",
    "fit_shape_classifier",
    "fuse",
    "local_correlation",
    "shape_features",
]
