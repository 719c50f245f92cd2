"""Betti numbers of a binary shape: components, tunnels, cavities."""

import numpy as np
from scipy import ndimage

Betti = tuple[int, int, int]


def betti_numbers(shape: np.ndarray) -> Betti:
    """Components b0, tunnels b1 and cavities b2 of a bool array in 2D or 3D.

    The shape is the union of closed voxels: it is connected through faces, edges and corners (26
    neighbours, 8 in 2D), the background through faces only. b1 = b0 + b2 - chi, with the Euler
    characteristic chi = vertices - edges + faces - voxels of that union. In 2D b1 counts holes and
    b2 is 0. An empty shape has (0, 0, 0).
    """
    where = np.argwhere(shape)
    if not len(where):
        return (0, 0, 0)
    box = tuple(slice(a, b + 1) for a, b in zip(where.min(0), where.max(0), strict=True))
    padded = np.pad(shape[box], 1)
    full = np.ones((3,) * shape.ndim, bool)
    components = ndimage.label(padded, full)[1]
    enclosed = ndimage.label(~padded)[1] - 1
    chi = euler_characteristic(padded)
    if shape.ndim == 2:
        return (components, components - chi, 0)
    return (components, components + enclosed - chi, enclosed)


def euler_characteristic(padded: np.ndarray) -> int:
    """Vertices - edges + faces - voxels of the closed voxels of a bool array with an empty rim."""
    ndim = padded.ndim
    chi = 0
    for axes in range(1 << ndim):
        cells = padded
        dimension = ndim
        for axis in range(ndim):
            if axes >> axis & 1:
                # the face between two voxels belongs to the shape when either of them does
                n = cells.shape[axis]
                before, after = _cut(cells, axis, 0, n - 1), _cut(cells, axis, 1, n)
                cells = before | after
                dimension -= 1
        chi += (-1) ** dimension * int(np.count_nonzero(cells))
    return chi


def _cut(cells: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    return cells[(slice(None),) * axis + (slice(start, stop),)]
