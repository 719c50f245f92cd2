"""Paint a structure out of an image, and the same at a place where it is not (sham).

The filling is harmonic: the smoothest surface that meets the surroundings, so no edge of the
structure is left. Noise of the surroundings' spread and grain keeps the filling from standing out.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from scipy import ndimage, sparse
from scipy.sparse import linalg

from dreamorph.hallucination.config import RemovalConfig

#: Grains of noise that are tried, standard deviation of its blur in voxels.
_GRAINS = (0.0, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Lower quartile of the size of a standard normal number.
_QUARTILE = 0.3186


def remove_structure(
    image: np.ndarray,
    structure: np.ndarray,
    mask: np.ndarray,
    config: RemovalConfig,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the structure out.

    Args:
        image: `(*shape)` float.
        structure: bool `(*shape)`.
        mask: bool `(*shape)` foreground; padding neither is painted nor lends its value.

    Returns:
        The painted image, and where it was painted (bool).
    """
    region = widened(structure, mask, config.dilate_voxels)
    return paint(image, region, mask, config, generator), region


def sham_region(
    structure: np.ndarray,
    mask: np.ndarray,
    config: RemovalConfig,
    generator: np.random.Generator,
) -> np.ndarray | None:
    """The painted region's own shape, moved to a random place clear of the structure.

    The place inside the foreground that keeps most of the shape; None where less than
    `config.sham_share` of it fits anywhere. Widened like the structure, and never touching what is
    painted when the structure itself is removed.
    """
    region = widened(structure, mask, config.dilate_voxels)
    if not region.any():
        return None
    free = mask & ~region
    # how much of the shape fits at every shift; what is moved beyond the volume does not
    fit = scipy.signal.correlate(
        free.astype(float), region.astype(float), mode="full", method="fft"
    )
    places = np.argwhere(fit >= max(0.98 * fit.max(), config.sham_share * region.sum()))
    if not len(places):
        return None
    shift = places[generator.integers(len(places))] - (np.array(region.shape) - 1)
    return np.asarray(_shifted(region, shift) & free)


def _shifted(region: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The region moved by whole voxels, without what leaves the volume."""
    moved = np.zeros_like(region)
    pairs = list(zip(shift.tolist(), region.shape, strict=True))
    to = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in pairs)
    of = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in pairs)
    moved[to] = region[of]
    return moved


def sham(
    image: np.ndarray,
    structure: np.ndarray,
    mask: np.ndarray,
    config: RemovalConfig,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Paint at a sham place: the image and where, or None where there is no such place."""
    region = sham_region(structure, mask, config, generator)
    if region is None:
        return None
    return paint(image, region, mask, config, generator), region


def widened(structure: np.ndarray, mask: np.ndarray, voxels: int) -> np.ndarray:
    """The structure dilated by so many voxels within the mask."""
    grown = ndimage.binary_dilation(structure, iterations=voxels) if voxels else structure
    return np.asarray(grown & mask)


def paint(
    image: np.ndarray,
    region: np.ndarray,
    mask: np.ndarray,
    config: RemovalConfig,
    generator: np.random.Generator,
) -> np.ndarray:
    """The image with the region filled smoothly, and grained if the configuration says so."""
    if not region.any():
        return image.copy()
    filled = harmonic_fill(image, region, mask)
    if config.noise:
        filled[region] += _texture(image, region, mask, generator)[region]
    return filled


def harmonic_fill(image: np.ndarray, region: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Solve Laplace's equation in the region, with the masked surroundings as boundary values.

    The grid's edge and padding are closed (no flow). A part of the region with no surroundings at
    all takes the mean of the mask outside the region.
    """
    result = image.astype(np.float64)
    number = np.full(region.shape, -1)
    number[region] = np.arange(np.count_nonzero(region))
    known = mask & ~region
    size = int(region.sum())
    diagonal, right = np.zeros(size), np.zeros(size)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    for here, there in _neighbours(region.shape):
        inner, edge = region[here] & region[there], region[here] & known[there]
        rows.append(number[here][inner])
        columns.append(number[there][inner])
        np.add.at(diagonal, number[here][inner], 1.0)
        np.add.at(diagonal, number[here][edge], 1.0)
        np.add.at(right, number[here][edge], result[there][edge])
    outside = float(result[known].mean()) if known.any() else 0.0
    # a faint pull to the mean keeps a part without surroundings solvable
    pull = 1e-9
    row, column = np.concatenate(rows), np.concatenate(columns)
    shape = (size, size)
    matrix = sparse.diags(diagonal + pull) - sparse.csr_matrix(
        (np.ones(len(row)), (row, column)), shape=shape
    )
    right = right + pull * outside
    start = np.full(size, outside)
    solved, _ = linalg.cg(matrix, right, x0=start, rtol=1e-8, maxiter=2000)
    result[region] = solved
    return result


def _neighbours(shape: Sequence[int]) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pairs of views that lay every voxel beside its neighbour, both ways along each axis."""
    views = []
    for axis in range(len(shape)):
        full: list[slice] = [slice(None)] * len(shape)
        before, after = list(full), list(full)
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        views += [(tuple(before), tuple(after)), (tuple(after), tuple(before))]
    return views


def _texture(
    image: np.ndarray, region: np.ndarray, mask: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Noise with the spread and the grain found around the region.

    Both are read from what a blur of one voxel takes away. The lower quartile of its size resists
    the edges of other structures; the correlation of neighbours tells how coarse the grain is.
    """
    around = ndimage.binary_dilation(region, iterations=4) & mask & ~region
    if not around.any():
        return np.zeros(image.shape)
    fine = _fine(image.astype(np.float64))
    spread = float(np.percentile(np.abs(fine[around]), 25)) / _QUARTILE
    white = generator.standard_normal(image.shape)
    grain = _neighbour_correlation(fine, around)
    candidates = [_fine(ndimage.gaussian_filter(white, sigma)) for sigma in _GRAINS]
    everywhere = np.ones(image.shape, bool)
    noise = min(candidates, key=lambda c: abs(_neighbour_correlation(c, everywhere) - grain))
    return np.asarray(noise / noise.std() * spread)


def _fine(image: np.ndarray) -> np.ndarray:
    return np.asarray(image - ndimage.gaussian_filter(image, 1.0))


def _neighbour_correlation(image: np.ndarray, where: np.ndarray) -> float:
    """Correlation of voxels beside each other along any axis, both within `where`."""
    product = power = 0.0
    for here, there in _neighbours(image.shape):
        both = where[here] & where[there]
        product += float((image[here] * image[there])[both].sum())
        power += float((image[here] ** 2)[both].sum())
    return product / power if power > 0 else 0.0
