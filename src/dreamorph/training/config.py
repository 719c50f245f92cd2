"""Parameters of training."""

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field, model_validator

from dreamorph.config import Config

ArmName = Literal["none", "classic", "elastic", "dream", "learned"]
#: Called with a step and the metrics that belong to it.
LogSink = Callable[[int, Mapping[str, float]], None]
NetworkName = Literal["auto", "unet", "densenet", "resnet"]


class IntensityConfig(Config):
    """Random changes of brightness, drawn anew for every sample.

    Each change comes with its probability. Amounts are relative to a volume's standard deviation
    within its mask, so that they mean the same for MR, CT and simulated volumes.

    Attributes:
        bias_probability, bias_strength: a smooth multiplicative field, exp of up to this amount.
        gamma_probability, gamma_range: the exponent applied to brightness scaled to 0..1.
        smooth_probability, smooth_sigma_voxels: range of the Gaussian blur.
        noise_probability, noise_sd: largest standard deviation of Gaussian noise.
        contrast_probability, contrast: brightness is scaled by 1 plus or minus up to this.
    """

    bias_probability: float = Field(default=0.3, ge=0, le=1)
    bias_strength: float = Field(default=0.3, ge=0)
    gamma_probability: float = Field(default=0.3, ge=0, le=1)
    gamma_range: tuple[float, float] = (0.7, 1.5)
    smooth_probability: float = Field(default=0.2, ge=0, le=1)
    smooth_sigma_voxels: tuple[float, float] = (0.4, 0.9)
    noise_probability: float = Field(default=0.3, ge=0, le=1)
    noise_sd: float = Field(default=0.15, ge=0)
    contrast_probability: float = Field(default=0.3, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)


class TrainingConfig(Config):
    """How the networks are trained; every arm shares all of it.

    Attributes:
        arms: `none` shows the volumes as they are, `classic` moves them by random affine maps and
            changes their brightness, `elastic` adds random warps as rough as `elastic_warps` says
            and as strong as it says or tuning chose, `dream` adds dreams instead, `learned` warps
            like the random ones around the volume's own shape, in directions of the prior.
            `elastic` and `dream` have to be there: the verdict compares them.
        seeds: one network per arm and seed.
        steps: optimiser steps.
        batch_size: volumes per step; None takes 1 to learn labels and 4 to learn classes, whose
            networks normalise over the batch.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: of AdamW.
        warmup: share of the steps in which the learning rate rises.
        network: `unet` for segmentation, `densenet` or `resnet` for classes; `auto` chooses.
        channels: widths of the network's levels.
        residual_units: convolutions of each level of the UNet, around which its input is led; 0 for
            one plain convolution.
        dropout: probability of dropout within the network.
        dream_fraction: share of the samples of `elastic`, `dream` and `learned` that are warped;
            the rest is treated as in `classic`.
        intensity: random changes of brightness in all arms but `none`; null for none at all.
        epoch_steps: optimiser steps between two entries of the epoch metrics.
        checkpoint_every: steps between checkpoints, rounded up to whole epochs.
        precision: `auto` is mixed precision on a GPU, and on a CPU that has instructions for
            bfloat16; single precision elsewhere.
        device: `auto` takes a GPU where there is one.
        progress: show a progress bar.
    """

    arms: tuple[ArmName, ...] = ("none", "classic", "elastic", "learned", "dream")
    seeds: tuple[int, ...] = (0,)
    steps: int = Field(default=1000, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    network: NetworkName = "auto"
    channels: tuple[int, ...] = (16, 32, 64, 128)
    residual_units: int = Field(default=2, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    dream_fraction: float = Field(default=0.8, ge=0, le=1)
    intensity: IntensityConfig | None = IntensityConfig()
    epoch_steps: int = Field(default=50, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    progress: bool = True

    @model_validator(mode="after")
    def _distinct(self) -> "TrainingConfig":
        for name in ("arms", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct and at least one, got {list(values)}")
        if missing := {"elastic", "dream"} - set(self.arms):
            raise ValueError(
                f"arms must hold elastic and dream, which the verdict compares; {list(self.arms)} "
                f"lacks {', '.join(sorted(missing))}"
            )
        if len(self.channels) < 2:
            raise ValueError(f"channels needs at least two levels, got {list(self.channels)}")
        return self
