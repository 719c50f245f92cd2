"""Maps between volumes in, a deformation prior out."""

from dreamorph.pipelines.prior.pipeline import create_pipeline

__all__ = ["create_pipeline"]
