"""Batched affine registration by gradient descent on the matrix logarithm."""

import torch

from dreamorph.registration.config import AffineConfig
from dreamorph.registration.pyramid import Pairs
from dreamorph.registration.similarity import LocalCorrelation, correlation
from dreamorph.spatial.affine import apply_affine
from dreamorph.spatial.grid import coarse_shape, points_like, sample

#: Voxels along the shortest axis of the coarsest grid in use. With 10 to 14, ten of 24 pairs of
#: simulated brains ended in a wrong optimum that agreed better than the right one; with 20, none.
SMALLEST_GRID = 16


def register_affine(pairs: Pairs, config: AffineConfig, window: int) -> torch.Tensor:
    """Affine maps from fixed to moving points, `(B, n, n)` float64 in grid millimetres.

    Two starts per pair, the given alignment and the one that lays the centres of mass over each
    other, are optimised side by side for a while; the better one goes on. A pair whose best map
    changes volume by more than allowed, or agrees less than the given alignment does, keeps the
    given alignment.
    """
    batch = pairs.fixed.shape[0]
    levels = usable_levels(pairs.shape, config.levels)
    first, trial = pairs.at(levels[0]), max(1, config.iterations[0] // 3)
    both = _repeat(first, 2)
    log = torch.cat([_still(pairs), _mass_shift(pairs)])
    log = _optimise(both, log, config.step_mm, trial, window)
    agreement = _agreement(both, log, window)
    better = (agreement[batch:] > agreement[:batch])[:, None, None]
    log = torch.where(better, log[batch:], log[:batch])
    log = _optimise(first, log, config.step_mm, config.iterations[0] - trial, window)
    finest = first
    for factor in levels[1:]:
        finest = pairs.at(factor)
        iterations = config.iterations[config.levels.index(factor)]
        log = _optimise(finest, log, 0.5 * config.step_mm, iterations, window)
    determinant = torch.linalg.det(torch.linalg.matrix_exp(log))
    bound = config.max_volume_change
    bad = (determinant > bound) | (determinant < 1 / bound)
    bad |= _agreement(finest, log, window) < _agreement(finest, _still(pairs), window)
    return torch.linalg.matrix_exp(torch.where(bad[:, None, None], 0.0, log))


def usable_levels(shape: tuple[int, ...], levels: tuple[int, ...]) -> tuple[int, ...]:
    """Levels whose grid still shows something: on fewer voxels an affine map runs off."""
    usable = tuple(f for f in levels if min(coarse_shape(shape, f)) >= SMALLEST_GRID)
    return usable or levels[-1:]


def _optimise(
    pairs: Pairs, log: torch.Tensor, step_mm: float, iterations: int, window: int
) -> torch.Tensor:
    """Adam on the logarithm, with units such that every parameter moves points alike."""
    ndim = len(pairs.shape)
    units = torch.ones(ndim + 1, ndim + 1, dtype=torch.float64, device=log.device)
    for axis, edge in enumerate(pairs.extent_mm):
        units[:, axis] = 4.0 / edge
    units[ndim] = 0.0
    parameters = (log / torch.where(units > 0, units, 1.0)).detach().requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=step_mm)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, 0.1 * step_mm)
    points = points_like(pairs.shape, pairs.spacing_mm, log.device)
    local = LocalCorrelation.prepare(pairs.fixed, pairs.fixed_mask, window)
    for _ in range(iterations):
        optimiser.zero_grad()
        matrix = torch.linalg.matrix_exp(parameters * units)
        moved = sample(pairs.moving, apply_affine(matrix, points), pairs.extent_mm)
        agreement = local(moved) + correlation(pairs.fixed, moved, pairs.fixed_mask)
        (-agreement.sum()).backward()
        optimiser.step()
        schedule.step()
    return (parameters * units).detach()


def _agreement(pairs: Pairs, log: torch.Tensor, window: int) -> torch.Tensor:
    points = points_like(pairs.shape, pairs.spacing_mm, log.device)
    moved = sample(
        pairs.moving, apply_affine(torch.linalg.matrix_exp(log), points), pairs.extent_mm
    )
    local = LocalCorrelation.prepare(pairs.fixed, pairs.fixed_mask, window)
    return local(moved) + correlation(pairs.fixed, moved, pairs.fixed_mask)


def _still(pairs: Pairs) -> torch.Tensor:
    size = len(pairs.shape) + 1
    return torch.zeros(
        pairs.fixed.shape[0], size, size, dtype=torch.float64, device=pairs.fixed.device
    )


def _mass_shift(pairs: Pairs) -> torch.Tensor:
    """Logarithms of the shifts between the centres of mass of brightness above the darkest."""
    points = points_like(pairs.shape, pairs.spacing_mm, pairs.fixed.device)
    axes = tuple(range(2, pairs.fixed.dim()))

    def centre(volume: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weight = (volume - volume.amin(dim=axes, keepdim=True)) * mask
        return (weight * points).sum(axes) / weight.sum(axes).clamp(min=1e-6)

    log = _still(pairs)
    shift = centre(pairs.moving, pairs.moving_mask) - centre(pairs.fixed, pairs.fixed_mask)
    log[:, :-1, -1] = shift.double()
    return log


def _repeat(pairs: Pairs, times: int) -> Pairs:
    def repeat(volume: torch.Tensor) -> torch.Tensor:
        return volume.repeat(times, *[1] * (volume.dim() - 1))

    return Pairs(
        repeat(pairs.fixed),
        repeat(pairs.moving),
        repeat(pairs.fixed_mask),
        repeat(pairs.moving_mask),
        None,
        None,
        pairs.extent_mm,
    )
