"""What a scanner makes of a simulated anatomy. Parameters are drawn apart from being applied."""

from dataclasses import dataclass

import numpy as np
import torch

from dreamorph.simulation.config import AppearanceConfig
from dreamorph.simulation.shapes import smooth_fields
from dreamorph.spatial import gaussian_smooth, resample

_BIAS_SHAPE = (12, 12, 12)


@dataclass(frozen=True)
class Appearance:
    """One scan's parameters.

    Attributes:
        gamma: exponent of the intensities.
        tissue_shifts: brightness added to fluid, grey and white matter.
        log_bias: `(1, 1, 12, 12, 12)` float32, logarithm of the bias field over the grid.
        noise: standard deviation of the noise.
        blur_voxels: standard deviation of the blur.
        gain: intensity of white matter in the file.
        crop: voxels missing at the low and the high end of each axis.
    """

    gamma: float
    tissue_shifts: tuple[float, float, float]
    log_bias: torch.Tensor
    noise: float
    blur_voxels: float
    gain: float
    crop: tuple[tuple[int, int], ...]


def draw_appearance(
    config: AppearanceConfig, extent_mm: tuple[float, ...], generator: np.random.Generator
) -> Appearance:
    """Parameters of one scan of a grid of this extent."""
    normal = generator.standard_normal
    shifts = config.tissue_shift * normal(3)
    bias = smooth_fields(1, _BIAS_SHAPE, extent_mm, config.bias_length_mm, generator, channels=1)
    return Appearance(
        gamma=float(np.exp(config.log_gamma * normal())),
        tissue_shifts=(float(shifts[0]), float(shifts[1]), float(shifts[2])),
        log_bias=config.bias * bias,
        noise=float(generator.uniform(*config.noise)),
        blur_voxels=float(generator.uniform(0, config.largest_blur_voxels)),
        gain=float(generator.uniform(600, 1400)),
        crop=tuple(_crop(config.largest_crop_voxels, generator) for _ in range(3)),
    )


def apply_appearance(
    intensity: torch.Tensor,
    tissues: torch.Tensor,
    appearance: Appearance,
    noise_kind: str,
    generator: np.random.Generator,
) -> torch.Tensor:
    """Scan an anatomy: contrast, bias, blur, noise; the field of view is cut elsewhere.

    Args:
        intensity: `(1, 1, D, H, W)` from 0 to 1.
        tissues: `(1, 3, D, H, W)` probabilities of fluid, grey and white matter.
        appearance: the scan's parameters.
        noise_kind: 'rician' or 'gaussian'.
        generator: source of the noise.

    Returns:
        `(1, 1, D, H, W)` float32, white matter about `appearance.gain`.
    """
    brain = tissues.sum(dim=1, keepdim=True)
    shifts = torch.tensor(appearance.tissue_shifts).reshape(1, 3, 1, 1, 1)
    signal = intensity.clamp(0, 1) ** appearance.gamma + (tissues * shifts).sum(1, keepdim=True)
    signal = signal.clamp(min=0) * torch.exp(resample(appearance.log_bias, intensity.shape[2:]))
    signal = gaussian_smooth(torch.where(brain > 0, signal, 0.0), appearance.blur_voxels)
    noise = torch.from_numpy(generator.standard_normal((2, *signal.shape))).float()
    noise *= appearance.noise
    if noise_kind == "rician":
        # the magnitude of a complex signal with noise in both parts
        signal = torch.hypot(signal + noise[0], noise[1])
    else:
        signal = signal + noise[0]
    return signal * appearance.gain


def _crop(largest: int, generator: np.random.Generator) -> tuple[int, int]:
    missing = 2 * int(generator.integers(0, largest // 2 + 1))
    low = int(generator.integers(0, missing + 1))
    return low, missing - low
