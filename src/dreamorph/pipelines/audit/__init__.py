"""Dreams and scores in, a verdict out."""

from dreamorph.pipelines.audit.pipeline import create_pipeline

__all__ = ["create_pipeline"]
