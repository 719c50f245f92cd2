"""Pairs in, maps between volumes out."""

from dreamorph.pipelines.register.pipeline import create_pipeline

__all__ = ["create_pipeline"]
