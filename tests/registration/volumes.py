"""Volumes and maps that the tests of registration share."""

import torch

from dreamorph.spatial import SpatialTransform, gaussian_smooth


def texture(shape: tuple[int, ...], seed: int = 0, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 1, *shape, generator=generator)
    return gaussian_smooth(noise, 2.0) * 10


def ball(
    shape: tuple[int, ...], radius: float, edge: float, shift: tuple[float, ...] | None = None
) -> torch.Tensor:
    """A ball without texture in the middle of a volume, or beside it: `(1, 1, *shape)` in 0..1."""
    middle = [(n - 1) / 2 + s for n, s in zip(shape, shift or (0.0,) * len(shape), strict=True)]
    axes = [torch.arange(n) - m for n, m in zip(shape, middle, strict=True)]
    squared = sum(x.square() for x in torch.meshgrid(*axes, indexing="ij"))
    return torch.sigmoid((radius - torch.as_tensor(squared).sqrt()) / edge)[None, None]


def known_warp(
    shape: tuple[int, ...], size_mm: float, seed: int = 1, batch: int = 1
) -> SpatialTransform:
    generator = torch.Generator().manual_seed(seed)
    ndim = len(shape)
    field = torch.randn(batch, ndim, *[n // 2 for n in shape], generator=generator)
    field = gaussian_smooth(field, 2.5)
    field *= size_mm / field.norm(dim=1).mean()
    still = SpatialTransform.identity(batch, shape, [1.0] * ndim)
    return SpatialTransform(still.pre, field, still.post, still.shape, still.spacing_mm)


def error_mm(found: SpatialTransform, truth: SpatialTransform, margin: int = 6) -> torch.Tensor:
    inner = (slice(None), slice(None), *[slice(margin, -margin)] * len(truth.shape))
    return (found.points() - truth.points())[inner].norm(dim=1).mean()
