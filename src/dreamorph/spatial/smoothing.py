"""Separable smoothing of volumes and fields `(B, C, *shape)`.

Each axis is filtered by one small banded matrix, which on grids of this size is several times
faster on a CPU than a convolution or pooling call.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from dreamorph.spatial.on_gpu import fused


def gaussian_smooth(field: torch.Tensor, sigma_voxels: float | Sequence[float]) -> torch.Tensor:
    """Convolve with a Gaussian of the given standard deviation (voxels, per axis or for all).

    Beyond its border the field is mirrored, so a constant stays constant and the filter is diagonal
    in the cosine basis.
    """
    ndim = field.dim() - 2
    sigmas = [float(sigma_voxels)] * ndim if isinstance(sigma_voxels, int | float) else sigma_voxels
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            size, taps = field.shape[2 + axis], _gaussian(float(sigma))
            if len(taps) <= size and fused(field):
                from dreamorph.spatial.fused import smoothed

                field = smoothed(field, taps, axis)
            else:
                matrix = _gaussian_matrix(size, taps, field.device, field.dtype)
                field = apply_along(field, matrix, axis)
    return field


def box_mean(volume: torch.Tensor, window: int, stride: int = 1) -> torch.Tensor:
    """Mean over cubes of `window` voxels (odd) centred on every `stride`-th voxel.

    Windows are cut at the border and divided by their full size: outside counts as zero.
    """
    for axis in range(volume.dim() - 2):
        size = volume.shape[2 + axis]
        matrix = _box_matrix(size, window, stride, volume.device, volume.dtype)
        volume = apply_along(volume, matrix, axis)
    return volume


def box_spread(
    means: torch.Tensor, shape: Sequence[int], window: int, stride: int = 1
) -> torch.Tensor:
    """Transpose of `box_mean`, from the windows `(B, C, *windows)` to the grid they lie on."""
    for axis, size in enumerate(shape):
        matrix = _box_matrix(size, window, stride, means.device, means.dtype)
        means = apply_along(means, matrix.T, axis)
    return means


def apply_along(field: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiply every line along spatial `axis` of `(B, C, *shape)` by `matrix` `(out, in)`.

    Matrices `(B, out, in)` are each for one field of the batch; one of them serves all.
    """
    size = field.shape[2 + axis]
    after = math.prod(field.shape[3 + axis :])
    out = (*field.shape[: 2 + axis], matrix.shape[-2], *field.shape[3 + axis :])
    if matrix.dim() == 3 and len(matrix) > 1:
        if after == 1:
            return (field.reshape(len(field), -1, size) @ matrix.mT).reshape(out)
        lines = field.reshape(len(field), -1, size, after)
        return torch.matmul(matrix[:, None], lines).reshape(out)
    matrix = matrix.reshape(matrix.shape[-2:])
    before = math.prod(field.shape[: 2 + axis])
    if after == 1:
        return (field.reshape(before, size) @ matrix.T).reshape(out)
    return torch.matmul(matrix, field.reshape(before, size, after)).reshape(out)


@lru_cache(maxsize=256)
def _gaussian(sigma: float) -> tuple[float, ...]:
    """A Gaussian at 0, 1, ... voxels, up to three standard deviations; both sides sum to one."""
    half = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(max(1, math.ceil(3 * sigma)) + 1)]
    total = half[0] + 2 * math.fsum(half[1:])
    return tuple(weight / total for weight in half)


# The matrices stay on the device where they are needed: a copy from the CPU would make a GPU wait.
@lru_cache(maxsize=256)
def _gaussian_matrix(
    size: int, taps: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    matrix = torch.zeros(size, size, dtype=torch.float64)
    rows = torch.arange(size)
    for offset in range(1 - len(taps), len(taps)):
        column = (rows + offset) % (2 * size)
        column = torch.where(column >= size, 2 * size - 1 - column, column)
        weight = matrix.new_tensor(taps[abs(offset)])
        matrix.index_put_((rows, column), weight.expand(size), accumulate=True)
    return _kept(matrix, device, dtype)


@lru_cache(maxsize=256)
def _box_matrix(
    size: int, window: int, stride: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    centres = torch.arange((stride - 1) // 2, size, stride)
    offset = torch.arange(size).unsqueeze(0) - centres.unsqueeze(1)
    return _kept((offset.abs() <= window // 2).to(torch.float64) / window, device, dtype)


def _kept(matrix: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    with torch.inference_mode(mode=False):
        return matrix.clone().to(device, dtype)
