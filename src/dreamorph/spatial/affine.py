"""Affine maps as homogeneous matrices `(B, ndim + 1, ndim + 1)` in float64, in grid millimetres."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

#: Of the matrix exponential: squarings, and the terms of its series, three in a row.
_EXP_SQUARINGS = 4
_EXP_SERIES = [[1 / math.factorial(3 * row + k) for k in range(3)] for row in range(3)]
_EXP_LAST = 1 / math.factorial(9)
#: Of the matrix logarithm: square roots, the last odd order of its series, and how near to the
#: negative axis an eigenvalue may lie, the largest one being 1.
_LOG_ROOTS, _LOG_LAST, _LOG_TOLERANCE = 6, 11, 1e-6
#: Most iterations of a square root; each halves what is left of digits that are wrong, or better.
_ROOT_ITERATIONS = 40


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

    By inverse scaling and squaring (Cheng et al., SIAM J. Matrix Anal. Appl. 2001), of all maps at
    once: `scipy.linalg.logm` takes 4 ms for each.

    Raises ValueError where a map mirrors or turns by half a circle, for which no real principal
    logarithm exists. (Arsigny et al., J. Math. Imaging Vis. 2009: log-Euclidean affine statistics.)
    """
    log, exists = affine_log_where(matrix)
    if not exists.all():
        raise ValueError("affine map without a real logarithm: it mirrors or turns by 180 degrees")
    return log


def affine_log_where(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`affine_log` of the maps that have one, zero for others, and which have, `(B,)`."""
    maps = matrix.detach().cpu().double()
    eye = torch.eye(maps.shape[-1], dtype=maps.dtype)
    exists = maps.isfinite().all(dim=2).all(dim=1)
    values = torch.linalg.eigvals(torch.where(exists[:, None, None], maps, eye))
    near = _LOG_TOLERANCE * values.abs().amax(dim=1, keepdim=True)
    exists &= ~((values.real <= near) & (values.imag.abs() <= near)).any(dim=1)
    root = torch.where(exists[:, None, None], maps, eye)
    for _ in range(_LOG_ROOTS):
        root = _square_root(root)
    # log R = 2 artanh ((R - 1) / (R + 1))
    small = torch.linalg.solve(root + eye, root - eye)
    square = small @ small
    series = eye / _LOG_LAST
    for order in range(_LOG_LAST - 2, 0, -2):
        series = eye / order + square @ series
    log = 2 ** (_LOG_ROOTS + 1) * small @ series
    return log.to(matrix.device), exists.to(matrix.device)


def affine_exp(log: torch.Tensor) -> torch.Tensor:
    """Matrix exponential, the inverse of `affine_log`, float64.

    Scaling and squaring of a Taylor series: to 1e-12 for linear parts of norm 2, larger than those
    of any plausible map. `torch.linalg.matrix_exp` would wait for the GPU at every call. The series
    is summed up by powers of the cube (Paterson and Stockmeyer, SIAM J. Comput. 1973).
    """
    small = log.double() * 0.5**_EXP_SQUARINGS
    eye = torch.eye(log.shape[-1], dtype=small.dtype, device=small.device).expand_as(small)
    square = small @ small
    cube = square @ small
    powers = torch.stack([eye, small, square], dim=-1)
    low, middle, high = (powers @ _series(small.device)).unbind(dim=-1)
    result = torch.add(high, cube, alpha=_EXP_LAST)
    for part in (middle, low):
        result = torch.baddbmm(part, cube, result)
    for _ in range(_EXP_SQUARINGS):
        result = result @ result
    return result


@lru_cache
def _series(device: torch.device) -> torch.Tensor:
    """Kept on the device, as a copy from the CPU would make a GPU wait."""
    with torch.inference_mode(mode=False):
        return torch.tensor(_EXP_SERIES, dtype=torch.float64, device=device).T


def _square_root(matrix: torch.Tensor) -> torch.Tensor:
    """Principal square roots `(B, n, n)` (Denman and Beavers, Appl. Math. Comput. 1976)."""
    root, inverse = matrix, torch.eye(matrix.shape[-1], dtype=matrix.dtype).expand_as(matrix)
    for _ in range(_ROOT_ITERATIONS if len(matrix) else 0):
        before = root
        root, inverse = (
            0.5 * (root + torch.linalg.inv(inverse)),
            0.5 * (inverse + torch.linalg.inv(root)),
        )
        if (root - before).abs().max() <= 1e-15 * root.abs().max():
            break
    return root
