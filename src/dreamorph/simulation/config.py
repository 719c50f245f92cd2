"""Parameters of the simulated patients."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dreamorph.config import Config


class ShapeConfig(Config):
    """The known prior from which anatomies are drawn.

    Attributes:
        factor: how much coarser than the image the grid of the velocities is.
        n_modes: number of true smooth modes, the enlargement not counted.
        mode_sd_mm: standard deviation of the first mode, as root mean square motion of a point.
        mode_decay: standard deviation of each mode over that of the one before.
        mode_length_mm: length over which the modes vary.
        residual_sd_mm: motion of a point that no mode explains, different in every subject.
        residual_length_mm: length over which that residual varies.
        normal_mm, enlarged_mm: mean of the enlargement in the two classes, as the largest velocity
            away from the ventricles.
        enlargement_sd_mm: standard deviation of the enlargement within a class.
        rotation_degrees, shift_mm, log_scale: standard deviations of a subject's affine map.
        smallest_determinant: shapes that squeeze a corner of any voxel beyond this are drawn anew.
    """

    factor: int = Field(default=2, ge=1, le=8)
    n_modes: int = Field(default=4, ge=1, le=32)
    mode_sd_mm: float = Field(default=2.0, ge=0)
    mode_decay: float = Field(default=0.75, gt=0, le=1)
    mode_length_mm: float = Field(default=10.0, gt=0)
    residual_sd_mm: float = Field(default=0.6, ge=0)
    residual_length_mm: float = Field(default=6.0, gt=0)
    normal_mm: float = 0.0
    enlarged_mm: float = 2.5
    enlargement_sd_mm: float = Field(default=0.6, ge=0)
    rotation_degrees: float = Field(default=3.0, ge=0, le=20)
    shift_mm: float = Field(default=2.0, ge=0)
    log_scale: float = Field(default=0.03, ge=0, le=0.2)
    smallest_determinant: float = Field(default=0.05, gt=0, lt=1)


class AppearanceConfig(Config):
    """How a scanner sees an anatomy.

    Attributes:
        log_gamma: standard deviation of the logarithm of the exponent of the intensities.
        tissue_shift: standard deviation of each tissue's own brightness, white matter being 1.
        bias: standard deviation of the logarithm of the bias field.
        bias_length_mm: length over which the bias field varies.
        noise: range of the noise's standard deviation, white matter being 1.
        noise_kind: Rician, as in magnitude images, or Gaussian.
        largest_blur_voxels: largest standard deviation of an additional blur.
        largest_crop_voxels: how much smaller than the grid a volume may be along each axis; even,
            so that the centres of all volumes agree on a common grid.
    """

    log_gamma: float = Field(default=0.2, ge=0, le=1)
    tissue_shift: float = Field(default=0.04, ge=0, le=0.3)
    bias: float = Field(default=0.15, ge=0, le=1)
    bias_length_mm: float = Field(default=40.0, gt=0)
    noise: tuple[float, float] = (0.02, 0.06)
    noise_kind: Literal["rician", "gaussian"] = "rician"
    largest_blur_voxels: float = Field(default=0.5, ge=0, le=3)
    largest_crop_voxels: int = Field(default=4, ge=0, multiple_of=2)

    @model_validator(mode="after")
    def _noise_is_a_range(self) -> Self:
        if not 0 <= self.noise[0] <= self.noise[1]:
            raise ValueError(
                f"noise must be two numbers, 0 <= lowest <= highest, got {self.noise}; swap them"
            )
        return self


class SimulationConfig(Config):
    """A cohort of simulated patients, one volume each.

    Attributes:
        n_labelled: subjects for training with labels.
        n_unlabelled: subjects for training whose labels are withheld.
        n_test: subjects held out.
        shape, spacing_mm: the grid of the volumes.
        shapes: the prior of the anatomies.
        appearance: the scanner.
        seed: the same seed gives the same cohort.
    """

    n_labelled: int = Field(default=10, ge=0, le=999)
    n_unlabelled: int = Field(default=16, ge=0, le=999)
    n_test: int = Field(default=16, ge=0, le=999)
    shape: tuple[int, int, int] = (48, 56, 40)
    spacing_mm: float = Field(default=2.0, ge=1.0, le=4.0)
    shapes: ShapeConfig = ShapeConfig()
    appearance: AppearanceConfig = AppearanceConfig()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _holds_the_anatomy(self) -> Self:
        smallest = (72.0, 92.0, 64.0)
        edges = tuple(n * self.spacing_mm for n in self.shape)
        if any(e < s for e, s in zip(edges, smallest, strict=True)):
            raise ValueError(
                f"the grid covers {edges} mm, but the labelled structures need at least {smallest};"
                " raise shape or spacing_mm"
            )
        return self

    @model_validator(mode="after")
    def _has_subjects(self) -> Self:
        if self.n_subjects == 0:
            raise ValueError(
                "expected at least one subject: raise n_labelled, n_unlabelled or n_test"
            )
        return self

    @property
    def n_subjects(self) -> int:
        """Number of subjects, and of volumes."""
        return self.n_labelled + self.n_unlabelled + self.n_test
