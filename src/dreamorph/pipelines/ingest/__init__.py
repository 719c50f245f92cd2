"""Files in, one preprocessed cohort out."""

from dreamorph.pipelines.ingest.pipeline import create_pipeline

__all__ = ["create_pipeline"]
