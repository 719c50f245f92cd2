"""Networks in, scores of held-out subjects out."""

from dreamorph.pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
