"""Parameters of a registration."""

from typing import Literal

from pydantic import Field

from dreamorph.config import Config


class AffineConfig(Config):
    """The affine step.

    Attributes:
        levels: how much coarser than the image each pyramid level is.
        iterations: optimiser steps at each level.
        step_mm: first step length, as the motion of a point halfway to the grid's border.
        max_volume_change: largest accepted determinant, and one over the smallest.
    """

    levels: tuple[int, ...] = (4, 2)
    iterations: tuple[int, ...] = (60, 30)
    step_mm: float = Field(default=1.0, gt=0)
    max_volume_change: float = Field(default=3.0, gt=1)


class VelocityConfig(Config):
    """The deformable step.

    Attributes:
        levels: how much coarser than the image each pyramid level is.
        iterations: optimiser steps at each level.
        factor: how much coarser than the image the grid of the velocity is.
        step_mm: first step length of the optimiser.
        sigma: smoothness of the velocity, standard deviation in voxels of its grid.
        diffusion: weight of the mean squared gradient of the velocity (mm per mm).
        squarings: squarings of the exponential while optimising.
    """

    levels: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (40, 40, 30)
    factor: int = Field(default=2, ge=1)
    step_mm: float = Field(default=0.5, gt=0)
    sigma: float = Field(default=1.5, ge=0)
    diffusion: float = Field(default=0.1, ge=0)
    squarings: int = Field(default=5, ge=1, le=10)


class RegistrationConfig(Config):
    """How `register` works.

    Attributes:
        window: edge of the window of local normalised cross-correlation, in voxels.
        label_weight: weight of the label overlap where both volumes are labelled.
        affine: the affine step, or None to trust the given alignment.
        velocity: the deformable step, or None for an affine registration.
        batch_size: pairs optimised at once; None chooses it from the free memory.
        device: where to compute; auto takes a GPU where there is one.
    """

    window: int = Field(default=5, ge=3)
    label_weight: float = Field(default=1.0, ge=0)
    affine: AffineConfig | None = AffineConfig()
    velocity: VelocityConfig | None = VelocityConfig()
    batch_size: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
