"""Everything in, one page out."""

from dreamorph.pipelines.report.pipeline import create_pipeline

__all__ = ["create_pipeline"]
