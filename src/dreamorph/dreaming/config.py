"""Parameters of dreams and of the random warps they are compared with."""

from pydantic import Field

from dreamorph.config import Config
from dreamorph.dreaming.strength import Strength


class DreamConfig(Config):
    """How dreams are made.

    Attributes:
        pool: dreams drawn and checked; training draws from those that pass.
        saved: how many of them are written as NIfTI to look at.
        scale: factor on the deviation from the class's mean; one is the learned population.
        seed: names the whole set.
    """

    pool: int = Field(default=160, ge=8)
    saved: int = Field(default=12, ge=0)
    scale: float = Field(default=1.0, gt=0)
    seed: int = 0


class AffineWarpConfig(Config):
    """Random affine maps of classic augmentation; each value is drawn evenly from -x to x.

    Attributes:
        rotation_deg: turn about each axis.
        log_scale: logarithm of the scale along each axis.
        shear: off-diagonal entries.
        shift_mm: shift along each axis.
    """

    rotation_deg: float = Field(default=10.0, ge=0)
    log_scale: float = Field(default=0.1, ge=0)
    shear: float = Field(default=0.05, ge=0)
    shift_mm: float = Field(default=3.0, ge=0)


class ElasticWarpConfig(Config):
    """Random diffeomorphic warps: the opponent that a learned prior has to beat.

    Warps in learned directions are as strong and as rough: only the directions differ.

    Attributes:
        sigma_mm: standard deviation of the Gaussian that smooths the noise; None takes it from
            `width`.
        width: that deviation as a share of the dreams'; None makes random warps as rough as the
            dreams, and leaves learned directions as smooth as the population.
            Networks gain from rougher ones (docs/decisions/0039-rougher-warps.md).
        energy: mean squared velocity in units of that of the dreams; one is equal energy.
            Networks gain from more (docs/decisions/0025-one-strength.md).
    """

    sigma_mm: float | None = Field(default=None, gt=0)
    width: float | None = Field(default=0.4, gt=0)
    energy: float = Field(default=4.0, gt=0)

    def strength(self, dreams: Strength) -> Strength:
        """How strong and how rough the warps are, by those of the dreams."""
        share = 1.0 if self.width is None else self.width
        widths = tuple(
            share * own if self.sigma_mm is None else self.sigma_mm for own in dreams.sigma_mm
        )
        return Strength(self.energy * dreams.energy, widths)

    @property
    def shaped(self) -> bool:
        """Whether the roughness is asked for, rather than taken as it comes."""
        return self.sigma_mm is not None or self.width is not None
