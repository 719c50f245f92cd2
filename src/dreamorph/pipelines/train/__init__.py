"""Volumes and dreams in, one trained network per arm out."""

from dreamorph.pipelines.train.pipeline import create_pipeline

__all__ = ["create_pipeline"]
