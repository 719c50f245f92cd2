"""Affine maps as homogeneous matrices `(B, ndim + 1, ndim + 1)` in float64, in grid millimetres."""

from collections.abc import Sequence

import numpy as np
import scipy.linalg
import torch

#: Of the matrix exponential.
_EXP_SQUARINGS, _EXP_TERMS = 4, 9


def identity_affine(batch: int, ndim: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """`(batch, ndim + 1, ndim + 1)` identity matrices in float64."""
    eye = torch.eye(ndim + 1, dtype=torch.float64, device=device)
    return eye.expand(batch, -1, -1).clone()


def apply_affine(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Map points `(B, ndim, *shape)` by matrices `(B, n, n)`; a batch of one fits all.

    Computed in the dtype of the points.
    """
    ndim = points.shape[1]
    matrix = matrix.to(points.dtype)
    linear, shift = matrix[:, :ndim, :ndim], matrix[:, :ndim, ndim]
    batch = max(points.shape[0], matrix.shape[0])
    flat = points.reshape(points.shape[0], ndim, -1)
    mapped = linear @ flat + shift.unsqueeze(-1)
    return mapped.reshape(batch, ndim, *points.shape[2:])


def affine_points(
    matrix: torch.Tensor, shape: Sequence[int], spacing_mm: Sequence[float]
) -> torch.Tensor:
    """Where matrices `(B, n, n)` take the voxel centres of a grid, `(B, ndim, *shape)` float32.

    A sum over the axes of what each coordinate adds, several times faster than mapping the points.
    """
    ndim = len(shape)
    rows = matrix.float()
    points = rows[:, :ndim, ndim].reshape(-1, ndim, *[1] * ndim)
    for axis, (n, s) in enumerate(zip(shape, spacing_mm, strict=True)):
        line = (torch.arange(n, device=rows.device, dtype=rows.dtype) - (n - 1) / 2) * s
        place = [1] * ndim
        place[axis] = n
        points = points + rows[:, :ndim, axis].reshape(-1, ndim, *[1] * ndim) * line.reshape(place)
    return points


def with_rigid_part(stretch: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """The size and shape of one affine map `(B, n, n)` in the rotation and place of another.

    By the polar decomposition A = R P into a rotation and a symmetric stretch: `R_pose P_stretch`
    with the shift of `pose`.
    """
    ndim = pose.shape[-1] - 1
    result = pose.clone()
    left, _, right = torch.linalg.svd(pose[..., :ndim, :ndim])
    _, values, axes = torch.linalg.svd(stretch[..., :ndim, :ndim])
    symmetric = axes.mT @ (values[..., None] * axes)
    result[..., :ndim, :ndim] = left @ right @ symmetric
    return result


def affine_log(matrix: torch.Tensor) -> torch.Tensor:
    """Principal matrix logarithm of affine maps `(B, n, n)`, float64, real.

    Raises ValueError where a map mirrors or turns by half a circle, for which no real principal
    logarithm exists. (Arsigny et al., J. Math. Imaging Vis. 2009: log-Euclidean affine statistics.)
    """
    log, exists = affine_log_where(matrix)
    if not exists.all():
        raise ValueError("affine map without a real logarithm: it mirrors or turns by 180 degrees")
    return log


def affine_log_where(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`affine_log` of the maps that have one, zero for others, and which have, `(B,)`."""
    logs = [np.asarray(scipy.linalg.logm(m)) for m in matrix.detach().cpu().double().numpy()]
    exists = np.array([np.abs(np.imag(log)).max() <= 1e-8 for log in logs])
    real = np.stack([np.real(log) for log in logs]) * exists[:, None, None]
    return torch.from_numpy(real).to(matrix.device), torch.from_numpy(exists).to(matrix.device)


def affine_exp(log: torch.Tensor) -> torch.Tensor:
    """Matrix exponential, the inverse of `affine_log`, float64.

    Scaling and squaring of a Taylor series: to 1e-12 for linear parts of norm 2, larger than those
    of any plausible map. `torch.linalg.matrix_exp` would wait for the GPU at every call.
    """
    small = log.double() * 0.5**_EXP_SQUARINGS
    eye = torch.eye(log.shape[-1], dtype=small.dtype, device=small.device)
    result = eye + small / _EXP_TERMS
    for term in range(_EXP_TERMS - 1, 0, -1):
        result = eye + small @ result / term
    for _ in range(_EXP_SQUARINGS):
        result = result @ result
    return result
