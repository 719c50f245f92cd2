"""How alike two volumes are: multi-scale SSIM, and overlap of their labels."""

import torch
from torch.nn import functional

from dreamorph.spatial import gaussian_smooth

#: Weights of the scales, finest first (Wang, Simoncelli and Bovik 2003), as far as scales exist.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST = 11


def ms_ssim(
    first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor, data_range: float
) -> torch.Tensor:
    """Multi-scale structural similarity of pairs of volumes, `(B,)`.

    Wang et al. 2003 with a Gaussian window of 1.5 voxels; only as many scales as leave 11 voxels
    along the shortest axis, with the weights of those scales renormalised. The maps are averaged
    with `weight`, so that padding does not count. Negative contrast terms count as 0.

    Args:
        first, second: `(B, 1, *shape)`.
        weight: `(B, 1, *shape)`, >= 0.
        data_range: span of intensities that the stabilising constants refer to.
    """
    levels = 1
    while levels < len(_WEIGHTS) and min(first.shape[2:]) >> levels >= _SMALLEST:
        levels += 1
    powers = torch.tensor(_WEIGHTS[:levels]) / sum(_WEIGHTS[:levels])
    pool = functional.avg_pool2d if first.dim() == 4 else functional.avg_pool3d
    result = torch.ones(len(first))
    for level in range(levels):
        luminance, contrast = _ssim_maps(first, second, data_range)
        last = level == levels - 1
        quality = _mean(luminance * contrast if last else contrast, weight)
        result = result * quality.clamp_min(0) ** powers[level]
        if not last:
            first, second, weight = pool(first, 2), pool(second, 2), pool(weight, 2)
    return result


def label_overlap(first: torch.Tensor, second: torch.Tensor, n_labels: int) -> torch.Tensor:
    """Mean Dice over the labels 1..n that both of a pair have, `(B,)`; NaN where there are none.

    Args:
        first, second: `(B, 1, *shape)` integers.
    """
    scores = torch.full((n_labels, len(first)), float("nan"))
    for k in range(1, n_labels + 1):
        a, b = (first == k).flatten(1), (second == k).flatten(1)
        overlap = 2 * (a & b).sum(1) / (a.sum(1) + b.sum(1))
        scores[k - 1] = torch.where(a.any(1) & b.any(1), overlap, float("nan"))
    return scores.nanmean(dim=0)


def _ssim_maps(
    first: torch.Tensor, second: torch.Tensor, data_range: float
) -> tuple[torch.Tensor, torch.Tensor]:
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    products = torch.cat([first, second, first**2, second**2, first * second], dim=1)
    a, b, aa, bb, ab = gaussian_smooth(products, 1.5).split(1, dim=1)
    luminance = (2 * a * b + c1) / (a**2 + b**2 + c1)
    contrast = (2 * (ab - a * b) + c2) / (aa - a**2 + bb - b**2 + c2)
    return luminance, contrast


def _mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    total = weight.flatten(1).sum(1).clamp_min(1e-6)
    return (values * weight).flatten(1).sum(1) / total
