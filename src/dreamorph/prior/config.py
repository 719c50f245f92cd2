"""Parameters of the deformation prior."""

from typing import Annotated

from pydantic import Field

from dreamorph.config import Config

#: More than nothing.
Positive = Annotated[float, Field(gt=0)]
#: More than nothing and less than all.
Share = Annotated[float, Field(gt=0, lt=1)]


class PriorConfig(Config):
    """How the prior is learned.

    Attributes:
        wavelength_voxels: finest wavelength of a deformation that the prior models, in voxels of
            the grid of the velocities.
        class_pooling: strength of the pull of a class towards the whole population, in cases: a
            class of that many members is half itself, half everybody.
        affine_shrinkage: pull of the affine covariance towards its diagonal, 0 to 1.
        localisations: lengths over which the mixture of members may vary, as shares of the grid's
            mean edge; one mixture for the whole grid is tried too.
        shrinkages: shares of the variance that may be given to the smooth residual. The length and
            the share under which left-out subjects are likeliest are kept.
        folds: parts of the subjects that are left out in turn.
        sites: values of a field, at most, that are compared; more take longer.
        modes: how many modes are kept for display and diagnostics.
    """

    wavelength_voxels: float = Field(default=8.0, ge=2)
    class_pooling: float = Field(default=4.0, ge=0)
    affine_shrinkage: float = Field(default=0.2, ge=0, le=1)
    localisations: tuple[Positive, ...] = (0.5, 0.35, 0.25, 0.18, 0.13)
    shrinkages: tuple[Share, ...] = Field(
        default=(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_length=1
    )
    folds: int = Field(default=6, ge=2)
    sites: int = Field(default=300, ge=12)
    modes: int = Field(default=8, ge=1)
