"""Per-volume normalisation of intensities.

MR has no unit: clip at two percentiles, then z-score. CT is in Hounsfield units: clip a window and
scale it to 0..1, so that 0 (also outside the mask) is the window's lower end. A shape is 0 or 1.
"""

import numpy as np

from dreamorph.errors import CohortError

BACKGROUND_SHARE = 0.1


def statistics_region(voxels: np.ndarray) -> np.ndarray:
    """Voxels (bool, same shape) whose intensities speak for the tissue.

    All of the scanned box, unless the exact minimum fills more than a tenth of it: then that value
    is the constant outside of a skull-stripped, defaced or padded scan and does not count. Noisy
    air does count: telling it from dark tissue would be a segmentation of its own.
    """
    background = np.asarray(voxels == voxels.min())
    if background.mean() > BACKGROUND_SHARE and not background.all():
        return ~background
    return np.ones(voxels.shape, dtype=bool)


def clip_percentiles(voxels: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Clip a volume at percentiles of its `statistics_region`; float32."""
    low, high = np.percentile(voxels[statistics_region(voxels)], percentiles)
    # plain floats: a float64 scalar of numpy would double the memory of a large volume
    return np.clip(voxels, float(low), float(high)).astype(np.float32, copy=False)


def z_score(voxels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 over `region` (bool, same shape), float32.

    Raises CohortError if the region has no contrast.
    """
    inside = voxels[region].astype(np.float64)
    deviation = float(inside.std()) if inside.size else 0.0
    if not deviation > 0:
        raise CohortError("the foreground has no contrast after resampling; set cohort.spacing_mm")
    return np.asarray((voxels - inside.mean()) / deviation, dtype=np.float32)
