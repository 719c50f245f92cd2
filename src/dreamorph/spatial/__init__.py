"""Grids, smooth fields and diffeomorphisms in 2D and 3D. Torch only.

Coordinates. A point is a vector of *grid millimetres*, `(index - (size - 1) / 2) * spacing` along
each array axis: the origin is the centre of the grid, and two grids of the same extent share their
coordinates whatever their resolution. Axes keep the array's order (D, H, W); after reorientation to
RAS they are x, y, z. A vector field is `(B, ndim, D, H, W)` in millimetres.
"""

from dreamorph.spatial.affine import affine_exp, affine_log, apply_affine, identity_affine
from dreamorph.spatial.grid import coarse_shape, extent, points_like, resample, sample
from dreamorph.spatial.jacobian import corner_determinants, folded_voxels
from dreamorph.spatial.smoothing import box_mean, gaussian_smooth
from dreamorph.spatial.transform import SpatialTransform
from dreamorph.spatial.velocity import compose, exp_velocity, flow

__all__ = [
    "SpatialTransform",
    "affine_exp",
    "affine_log",
    "apply_affine",
    "box_mean",
    "coarse_shape",
    "compose",
    "corner_determinants",
    "exp_velocity",
    "extent",
    "flow",
    "folded_voxels",
    "gaussian_smooth",
    "identity_affine",
    "points_like",
    "resample",
    "sample",
]
