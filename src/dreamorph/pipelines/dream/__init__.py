"""A prior in, checked dreams out."""

from dreamorph.pipelines.dream.pipeline import create_pipeline

__all__ = ["create_pipeline"]
