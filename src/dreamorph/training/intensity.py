"""Random changes of brightness for a batch of volumes.

Plain tensor code rather than MONAI's transforms: those work on one volume after the other, take
their statistics over padding too, multiply a bias field onto brightness that is centred on zero, so
that dark voxels darken where bright ones brighten, and some of them leave the GPU.
Parameters are drawn apart from applying them, so each change can be replayed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from dreamorph.spatial import gaussian_smooth, resample
from dreamorph.training.config import IntensityConfig

#: Control points per axis of a bias field.
BIAS_POINTS = 4


@dataclass(frozen=True)
class IntensityChange:
    """One change per volume of a batch.

    Attributes:
        bias: `(B, 1, *BIAS_POINTS)` logarithm of the multiplicative field at its control points.
        gamma: `(B,)` exponent, 1 for none.
        sigma_voxels: standard deviations of the blur, 0 for none.
        noise_sd: `(B,)` noise relative to the standard deviation of the volume.
        contrast: `(B,)` factor on the deviation from the mean, 1 for none.
        noise_seed: seed of the noise, drawn on the device of the volumes.
    """

    bias: torch.Tensor
    gamma: torch.Tensor
    sigma_voxels: Sequence[float]
    noise_sd: torch.Tensor
    contrast: torch.Tensor
    noise_seed: int

    def to(self, device: torch.device | str) -> "IntensityChange":
        """The same changes on another device."""
        return replace(
            self,
            bias=self.bias.to(device),
            gamma=self.gamma.to(device),
            noise_sd=self.noise_sd.to(device),
            contrast=self.contrast.to(device),
        )

    def apply(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Change images `(B, 1, *shape)` within their masks; outside they become zero.

        Gamma, bias and blur keep a volume's mean and standard deviation, so the network sees
        brightness on the scale it will see at test time.
        """
        inside = masks.to(images.dtype)
        mean, sd = _moments(images, inside)
        changed = self._curve(images, inside)
        changed = self._blur(changed, inside)
        new_mean, new_sd = _moments(changed, inside)
        changed = (changed - new_mean) / new_sd * sd * _spread(self.contrast, images) + mean
        if bool((self.noise_sd > 0).any()):
            generator = torch.Generator(images.device).manual_seed(self.noise_seed)
            noise = torch.randn(
                images.shape, generator=generator, device=images.device, dtype=images.dtype
            )
            changed = changed + noise * sd * _spread(self.noise_sd, images)
        return changed * inside

    def _curve(self, images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Gamma, then bias, on brightness scaled to 0..1 within the mask."""
        axes = tuple(range(1, images.dim()))
        low = torch.where(inside > 0, images, torch.inf).amin(axes, keepdim=True)
        high = torch.where(inside > 0, images, -torch.inf).amax(axes, keepdim=True)
        unit = ((images - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        unit = torch.where(torch.isfinite(unit), unit, 0.0)
        field = resample(self.bias, images.shape[2:])
        return unit ** _spread(self.gamma, images) * torch.exp(field)

    def _blur(self, images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Blur that does not mix padding in."""
        if not any(self.sigma_voxels):
            return images
        blurred = images.clone()
        for row, sigma in enumerate(self.sigma_voxels):
            if sigma > 0:
                one = slice(row, row + 1)
                weight = gaussian_smooth(inside[one], sigma).clamp(min=1e-6)
                blurred[one] = gaussian_smooth(images[one] * inside[one], sigma) / weight
        return blurred


def draw_intensity(
    batch: int, ndim: int, config: IntensityConfig, generator: torch.Generator
) -> IntensityChange:
    """Draw a change for each of `batch` volumes.

    The same number of random values is drawn whatever comes out.
    """

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    def happens(probability: float) -> torch.Tensor:
        return torch.rand(batch, generator=generator) < probability

    strength = config.bias_strength
    bias = uniform(-strength, strength, batch, 1, *[BIAS_POINTS] * ndim)
    bias = bias * _spread(happens(config.bias_probability), bias)
    low, high = (torch.tensor(v).log().item() for v in config.gamma_range)
    gamma = torch.where(happens(config.gamma_probability), uniform(low, high, batch).exp(), 1.0)
    sigma = uniform(*config.smooth_sigma_voxels, batch) * happens(config.smooth_probability)
    noise = uniform(0, config.noise_sd, batch) * happens(config.noise_probability)
    contrast = uniform(1 - config.contrast, 1 + config.contrast, batch)
    contrast = torch.where(happens(config.contrast_probability), contrast, 1.0)
    noise_seed = int(torch.randint(2**62, (1,), generator=generator))
    return IntensityChange(bias, gamma, sigma.tolist(), noise, contrast, noise_seed)


def _moments(images: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation within the mask, per volume."""
    axes = tuple(range(1, images.dim()))
    count = inside.sum(axes, keepdim=True).clamp(min=1)
    mean = (images * inside).sum(axes, keepdim=True) / count
    variance = ((images - mean) ** 2 * inside).sum(axes, keepdim=True) / count
    return mean, variance.clamp(min=1e-12).sqrt()


def _spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 1))
