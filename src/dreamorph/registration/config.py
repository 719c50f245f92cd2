"""Parameters of a registration."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from dreamorph.config import Config

Preset = Literal["fast", "default", "accurate"]
Similarity = Literal["lncc", "mind"]


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, BaseModel):  # what it leaves at its defaults was not given
            value = value.model_dump(exclude_unset=True)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merged(below, value)
        merged[key] = value
    return merged


def _as_many(step: str, levels: tuple[int, ...], iterations: tuple[int, ...]) -> None:
    if len(levels) != len(iterations) or not levels:
        raise ValueError(
            f"{step}: expected as many iterations as levels, at least one, got levels {levels} and "
            f"iterations {iterations}"
        )
    if list(levels) != sorted(set(levels), reverse=True) or levels[-1] < 1:
        raise ValueError(
            f"{step}: expected levels from coarse to fine, such as (4, 2, 1), got {levels}"
        )


class AffineConfig(Config):
    """The affine step.

    Attributes:
        levels: how much coarser than the image each pyramid level is.
        iterations: optimiser steps at each level.
        step_mm: first step length, as the motion of a point halfway to the grid's border; never
            more than a voxel of the image (the edge of a cube as large).
        max_volume_change: largest accepted determinant, and one over the smallest.
        least_overlap: smallest accepted share of either foreground that meets the other one.
        least_correlation: smallest accepted local correlation under the map, mean of both ways, on
            the finest of these levels, for `lncc`. Pairs of the same anatomy come to .5 and more,
            scans of different parts of the body to .2 to .4.
        turns_degrees: rotations about each axis tried from the centres of mass, besides none; less
            than half a turn.
    """

    levels: tuple[int, ...] = (4, 2)
    iterations: tuple[int, ...] = (60, 30)
    step_mm: float = Field(default=1.0, gt=0)
    max_volume_change: float = Field(default=3.0, gt=1)
    least_overlap: float = Field(default=0.3, ge=0, lt=1)
    least_correlation: float = Field(default=0.38, ge=-1, lt=1)
    turns_degrees: tuple[float, ...] = (-30.0, -15.0, 15.0, 30.0)

    @model_validator(mode="after")
    def _levels_fit(self) -> "AffineConfig":
        _as_many("affine", self.levels, self.iterations)
        if any(abs(turn) >= 180 for turn in self.turns_degrees):
            raise ValueError(f"affine: expected turns below 180 degrees, got {self.turns_degrees}")
        return self


class VelocityConfig(Config):
    """The deformable step.

    Attributes:
        levels: how much coarser than the image each pyramid level is.
        iterations: optimiser steps at each level.
        factor: how much coarser than the image the grid of the velocity is.
        step_mm: first step length of the optimiser; never more than half a voxel of the image.
        sigma: smoothness of the velocity, standard deviation in voxels of its grid.
        diffusion: weight of the squared gradient of the velocity (mm per mm), a mean over as many
            voxels as have content: how much padding there is does not matter.
        bending: weight of the squared change of that gradient from voxel to voxel of its grid.
        guided_bending: the same where labels guide the registration, which pull harder.
        squarings: squarings of the exponential while optimising.
    """

    levels: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (40, 40, 20)
    factor: int = Field(default=2, ge=1)
    step_mm: float = Field(default=0.5, gt=0)
    sigma: float = Field(default=1.0, ge=0)
    diffusion: float = Field(default=0.05, ge=0)
    bending: float = Field(default=0.25, ge=0)
    guided_bending: float = Field(default=0.5, ge=0)
    squarings: int = Field(default=2, ge=1, le=10)

    @model_validator(mode="after")
    def _levels_fit(self) -> "VelocityConfig":
        _as_many("velocity", self.levels, self.iterations)
        return self


#: What each preset changes. Figures for each are in docs/benchmarks.md.
PRESETS: dict[Preset, dict[str, Any]] = {
    "fast": {"velocity": {"levels": (4, 2), "iterations": (40, 40)}},
    "default": {},
    "accurate": {"velocity": {"iterations": (80, 80, 60)}},
}


class RegistrationConfig(Config):
    """How `register` works.

    `RegistrationConfig(preset="accurate")` takes a preset, `RegistrationConfig(preset="fast",
    window=7)` changes it further: what is given counts more than what the preset says. What a
    `VelocityConfig` leaves at its defaults is not given.

    Attributes:
        preset: `fast`, `default` or `accurate`.
        similarity: `lncc`, signed local correlation, for scans of one kind; `mind` (self-similarity
            context) for scans of different kinds.
        window: edge of the window of local normalised cross-correlation, in voxels; odd.
        label_weight: weight of the label overlap where both volumes are labelled.
        affine: the affine step, or None to trust the given alignment.
        velocity: the deformable step, or None for an affine registration.
        batch_size: pairs optimised at once; None chooses it from the free memory. Rounding differs
            with it: maps by up to .001 mm in the mean and .04 mm in places (four pairs of
            hippocampi alone and together, one thread). Several threads share out sums by the
            size of the batch, and descent makes more of that, up to tenths of a millimetre in the
            mean. Runs of the pipeline take a fixed number, one thread a batch.
        device: where to compute; auto takes a GPU where there is one.
    """

    preset: Preset = "default"
    similarity: Similarity = "lncc"
    window: int = Field(default=5, ge=3)
    label_weight: float = Field(default=1.0, ge=0)
    affine: AffineConfig | None = AffineConfig()
    velocity: VelocityConfig | None = VelocityConfig()
    batch_size: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"expected an odd number of voxels, got {window}")
        return window

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        # an unknown preset is left for the field's own validation to refuse
        preset: Any = given.get("preset", "default")
        return _merged(PRESETS.get(preset, {}), given)
