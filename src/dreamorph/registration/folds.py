"""Taking the folds out of maps: rare after a registration, forbidden in its result."""

from dataclasses import replace

import torch
from torch.nn import functional

from dreamorph.errors import RegistrationError
from dreamorph.spatial.smoothing import gaussian_smooth
from dreamorph.spatial.transform import SpatialTransform

#: How often a velocity is smoothed near its folds. Of 100 maps of CT scans and simulated heads 10
#: folded, and once was enough for each. What still folds then is weakened, as a whole.
SMOOTHINGS = 10
#: How far around a fold the velocity is smoothed at first, in voxels of its grid; every turn
#: reaches farther, for a point may come to a fold from afar.
REACH = 2


def without_folds(transform: SpatialTransform) -> SpatialTransform:
    """The maps, velocities smoothed around every fold until there is none on either grid.

    Neither the map nor its inverse then folds; of exact maps one would follow from the other, on
    voxels it does not. A map that does not fold, either way, stays as it is. One that smoothing
    does not mend is halved until it does not fold: with affine parts that keep orientation, that
    ends.

    Raises:
        RegistrationError: a velocity is not finite.
    """
    if transform.velocity is None:
        return transform
    if not bool(torch.isfinite(transform.velocity).all()):
        raise RegistrationError(
            "the registration gave velocities that are not finite: are the volumes' values?"
        )
    rows = torch.arange(len(transform), device=transform.velocity.device)
    turn = 0
    while True:
        folded = _either_way(transform[rows])
        some = folded.flatten(1).any(dim=1)
        rows, folded = rows[some], folded[some]
        if len(rows) == 0:
            return transform
        velocity = transform.velocity.clone()
        velocity[rows] = _mended(velocity[rows], folded, turn)
        transform = replace(transform, velocity=velocity)
        turn += 1


def _either_way(transform: SpatialTransform) -> torch.Tensor:
    """Voxels of the velocity's frame where the maps or their inverses fold, bool `(B, *shape)`."""
    there, back = transform.folded(), transform.inverse().folded()
    if not bool(back.any()):
        return there
    ndim = len(transform.shape)
    widen = functional.max_pool2d if ndim == 2 else functional.max_pool3d
    # wider by a voxel, so that none is lost between voxels of the other grid
    wide = widen(back[:, None].float(), 3, stride=1, padding=1)
    eye = torch.eye(ndim + 1).to(transform.post).expand_as(transform.post)
    brought = replace(transform, pre=eye, velocity=None).warp(wide)[:, 0] > 0
    # an affine part may take a fold off this grid: anything near is better than nothing
    lost = ~brought.flatten(1).any(dim=1) & back.flatten(1).any(dim=1)
    brought[lost] |= back[lost]
    return there | brought


def _mended(velocity: torch.Tensor, folded: torch.Tensor, turn: int) -> torch.Tensor:
    """Velocities that fold less."""
    if turn >= SMOOTHINGS:
        return 0.5 * velocity
    near = _near(folded, tuple(velocity.shape[2:]), REACH + turn)
    return velocity + near * (gaussian_smooth(velocity, 1.0) - velocity)


def _near(folded: torch.Tensor, shape: tuple[int, ...], reach: int) -> torch.Tensor:
    """How near to a fold each voxel of a coarser grid is, `(B, 1, *shape)`, 1 to 0, smooth."""
    ndim = len(shape)
    pool = functional.adaptive_max_pool2d if ndim == 2 else functional.adaptive_max_pool3d
    widen = functional.max_pool2d if ndim == 2 else functional.max_pool3d
    near = pool(folded[:, None].float(), shape)
    for axis in range(ndim):
        sides = [reach if other == axis else 0 for other in range(ndim)]
        near = widen(near, [2 * side + 1 for side in sides], stride=1, padding=sides)
    return gaussian_smooth(near, 1.0)
