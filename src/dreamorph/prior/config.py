"""Parameters of the deformation prior."""

from pydantic import Field

from dreamorph.config import Config


class PriorConfig(Config):
    """How the prior is learned.

    Attributes:
        wavelength_voxels: finest wavelength of a deformation that the prior models, in voxels of
            the grid of the velocities.
        class_pooling: strength of the pull of a class towards the whole population, in cases: a
            class of that many members is half itself, half everybody.
        affine_shrinkage: pull of the affine covariance towards its diagonal, 0 to 1.
        shrinkages: shares of the variance given to the smooth residual that are tried; the one
            under which left-out subjects are likeliest is kept.
        modes: how many modes are kept for display and diagnostics.
    """

    wavelength_voxels: float = Field(default=8.0, ge=2)
    class_pooling: float = Field(default=4.0, ge=0)
    affine_shrinkage: float = Field(default=0.2, ge=0, le=1)
    shrinkages: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    modes: int = Field(default=8, ge=1)
