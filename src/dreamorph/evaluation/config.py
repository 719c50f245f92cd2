"""Parameters of the evaluation."""

from pydantic import Field

from dreamorph.config import Config


class EvaluationConfig(Config):
    """How test subjects are scored.

    Attributes:
        tolerance_mm: distance within which a surface counts as found (surface Dice).
        views: affine maps like those of training under which a network sees a test volume once
            more, its answers averaged; 0 for one plain answer. For labels only.
        seed: of the bootstrap.
    """

    tolerance_mm: float = Field(default=1.0, gt=0)
    views: int = Field(default=4, ge=0)
    seed: int = Field(default=0, ge=0)
