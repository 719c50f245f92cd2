"""Training subjects alone in, the strength of random warps and the arm to recommend out."""

from dreamorph.pipelines.tune.pipeline import create_pipeline

__all__ = ["create_pipeline"]
