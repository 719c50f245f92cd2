"""Plain numbers that describe a structure's size, form and brightness."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

PERCENTILES = (5, 25, 50, 75, 95)
_BINS = 128


def shape_features(
    images: torch.Tensor,
    masks: torch.Tensor,
    spacing_mm: Sequence[float],
    segmentations: torch.Tensor | None = None,
) -> pd.DataFrame:
    """Features of N volumes, one row each, all finite.

    Args:
        images: `(N, 1, *shape)`.
        masks: `(N, 1, *shape)` bool, true where a volume has content.
        spacing_mm: voxel size.
        segmentations: `(N, 1, *shape)`; what is not zero is the structure. Must not come from the
            reference labels of test cases. None separates bright from dark (Otsu 1979).

    Returns:
        Volume, surface, extents, principal axes, compactness, position, asymmetry and parts of the
        structure; brightness within it and within the mask.
    """
    rows = []
    for index in range(len(images)):
        image = images[index, 0].cpu().double().numpy()
        mask = masks[index, 0].cpu().numpy().astype(bool)
        if segmentations is None:
            structure = mask & (image > otsu_threshold(image[mask]))
        else:
            structure = segmentations[index, 0].cpu().numpy() > 0
        rows.append(
            {
                **_form(structure, spacing_mm),
                **_brightness(image[structure], "structure"),
                **_brightness(image[mask], "volume"),
            }
        )
    return pd.DataFrame(rows)


def otsu_threshold(values: np.ndarray) -> float:
    """The threshold that best separates two groups (Otsu, IEEE Trans. SMC 1979)."""
    if values.size == 0 or np.ptp(values) == 0:
        return float(values.flat[0]) if values.size else 0.0
    counts, edges = np.histogram(values, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    mass = np.cumsum(counts * centres)
    mean_below = mass[:-1] / np.maximum(below, 1)
    mean_above = (mass[-1] - mass[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    # Between two far groups many thresholds are equally good: take the middle one.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1:-1][best[len(best) // 2]])


def surface_area(structure: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Area of all voxel faces between structure and outside, mm2 in 3D (mm in 2D)."""
    padded = np.pad(structure.astype(np.int8), 1)
    voxel = math.prod(spacing_mm)
    return float(
        sum(
            np.abs(np.diff(padded, axis=axis)).sum() * voxel / spacing_mm[axis]
            for axis in range(structure.ndim)
        )
    )


def _form(structure: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Size and form in mm; zeros where there is no structure."""
    spacing = np.asarray(spacing_mm, dtype=float)
    ndim = structure.ndim
    index = np.argwhere(structure)
    volume = len(index) * float(np.prod(spacing))
    area = surface_area(structure, spacing_mm)
    points = (index - (np.asarray(structure.shape) - 1) / 2) * spacing
    centre, extent = np.zeros(ndim), np.zeros(ndim)
    axes, skew = np.zeros(ndim), np.zeros(ndim)
    if len(points):
        centre = points.mean(axis=0)
        extent = np.ptp(points, axis=0) + spacing
    if len(points) > ndim:
        values, vectors = np.linalg.eigh(np.cov(points.T))
        axes = np.sqrt(values.clip(min=0))[::-1]
        along = (points - centre) @ vectors[:, ::-1]
        skew = np.abs((along**3).mean(axis=0)) / np.maximum(axes, 1e-6) ** 3
    parts = ndimage.label(structure)[1]
    features = {
        "volume_ml": volume / 1000,
        "surface": area,
        "compactness": volume ** ((ndim - 1) / ndim) / area if area else 0.0,
        "fill": volume / float(np.prod(extent)) if len(points) else 0.0,
        "elongation": float(axes[1] / axes[0]) if axes[0] else 0.0,
        "flatness": float(axes[-1] / axes[0]) if axes[0] else 0.0,
        "parts": float(parts),
    }
    for axis in range(ndim):
        features[f"centre_{axis}_mm"] = float(centre[axis])
        features[f"extent_{axis}_mm"] = float(extent[axis])
        features[f"principal_{axis}_mm"] = float(axes[axis])
        features[f"asymmetry_{axis}"] = float(skew[axis])
    return features


def _brightness(values: np.ndarray, where: str) -> dict[str, float]:
    """Moments and percentiles; zeros where there is nothing."""
    values = values if values.size else np.zeros(1)
    sd = float(values.std())
    third = float(((values - values.mean()) ** 3).mean())
    features = {
        f"{where}_mean": float(values.mean()),
        f"{where}_sd": sd,
        f"{where}_skewness": third / sd**3 if sd > 1e-9 else 0.0,
    }
    for percentile, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True):
        features[f"{where}_p{percentile}"] = float(value)
    return features
