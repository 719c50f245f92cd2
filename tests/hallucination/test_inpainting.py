import numpy as np
import pytest

from dreamorph.hallucination.config import RemovalConfig
from dreamorph.hallucination.inpainting import (
    harmonic_fill,
    remove_structure,
    sham,
    sham_region,
    widened,
)

SHAPE = (20, 24, 18)
MASK = np.ones(SHAPE, bool)
GRID = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in SHAPE], indexing="ij"))
BLOB = ((GRID - np.array([9.0, 7, 9])[:, None, None, None]) ** 2).sum(0) < 12


def test_fill_continues_a_ramp_exactly():
    """Linear functions are harmonic."""
    ramp = 1 + 0.5 * GRID[0] - 0.2 * GRID[1] + GRID[2]
    spoiled = np.where(BLOB, 99.0, ramp)
    assert np.abs(harmonic_fill(spoiled, BLOB, MASK) - ramp).max() < 1e-4


def test_fill_keeps_within_the_surroundings():
    image = np.random.default_rng(0).normal(size=SHAPE)
    filled = harmonic_fill(image, BLOB, MASK)
    assert image.min() <= filled[BLOB].min() <= filled[BLOB].max() <= image.max()
    assert np.array_equal(filled[~BLOB], image[~BLOB])


def test_padding_lends_nothing():
    mask = MASK.copy()
    mask[:, :, :9] = False
    image = np.where(mask, 5.0, -100.0)
    region = BLOB & mask
    assert harmonic_fill(image, region, mask)[region] == pytest.approx(5.0, abs=1e-4)


def test_a_structure_that_fills_everything_takes_some_value():
    assert np.isfinite(harmonic_fill(np.ones(SHAPE), MASK, MASK)).all()


def test_removed_structure_leaves_no_contrast():
    generator = np.random.default_rng(0)
    image = 0.05 * generator.normal(size=SHAPE) + 2.0 * BLOB
    painted, region = remove_structure(image, BLOB, MASK, RemovalConfig(), generator)
    assert region[BLOB].all()
    around = widened(region, MASK, 2) & ~region
    assert abs(painted[region].mean() - painted[around].mean()) < 0.05
    assert 0.02 < painted[region].std() < 0.1


def test_sham_keeps_clear_of_the_structure_and_has_its_size():
    region = sham_region(BLOB, MASK, RemovalConfig(), np.random.default_rng(0))
    painted = widened(BLOB, MASK, 2)
    assert not (region & painted).any()
    assert region.sum() > 0.9 * painted.sum()


def test_no_room_for_a_sham():
    everywhere = np.zeros(SHAPE, bool)
    everywhere[1:-1, 1:-1, 1:-1] = True
    assert (
        sham(np.zeros(SHAPE), everywhere, MASK, RemovalConfig(), np.random.default_rng(0)) is None
    )


def test_a_sham_neither_leaves_the_volume_nor_comes_in_on_its_other_side():
    """Of a large cube in the middle less than half fits anywhere beside it: there is no room."""
    cube = np.zeros((24, 24, 24), bool)
    cube[3:21, 3:21, 3:21] = True
    mask = np.ones_like(cube)
    config = RemovalConfig(dilate_voxels=0)
    # moved by three voxels along all axes it lies within the volume, 1 - (15 / 18)^3 of it free
    for seed in range(5):
        assert sham_region(cube, mask, config, np.random.default_rng(seed)) is None
    small = np.zeros_like(cube)
    small[8:16, 8:16, 1:9] = True
    for seed in range(20):
        region = sham_region(small, mask, config, np.random.default_rng(seed))
        assert region is not None
        assert not (region & small).any()
        sides = [np.flatnonzero(region.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        assert all(np.ptp(side) < 8 for side in sides)


def test_2d():
    image = np.random.default_rng(0).normal(size=(30, 30))
    structure = np.zeros((30, 30), bool)
    structure[5:10, 5:10] = True
    mask = np.ones((30, 30), bool)
    painted, region = remove_structure(
        image, structure, mask, RemovalConfig(), np.random.default_rng(0)
    )
    assert painted.shape == (30, 30)
    assert region.sum() > structure.sum()
