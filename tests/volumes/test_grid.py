"""Every volume's place on the common grid is exact."""

import logging

import numpy as np
import pytest

from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.grid import CommonGrid, common_grid, place, scanned_box
from dreamorph.volumes.io import Header

KINDS = ["RAS", "LAS", "LPS", "SRA", "oblique"]


def header(shape, spacing=(1.0, 1.0, 1.0)):
    return Header(shape, np.diag([*spacing, 1.0]))


def test_grid_holds_all_and_is_rounded_up():
    grid = common_grid([header((31, 40, 24)), header((35, 59, 47))], CohortConfig())
    assert grid == CommonGrid((40, 64, 48), (1.0, 1.0, 1.0))
    assert common_grid([header((8, 16, 24))], CohortConfig()).shape == (8, 16, 24)
    odd = common_grid([header((9, 9, 9))], CohortConfig(grid_multiple=5))
    assert odd.shape == (10, 10, 10)


def test_median_spacing_per_axis():
    headers = [header((10, 10, 10), s) for s in ((1, 1, 2), (1.5, 1, 3), (9, 1, 3))]
    assert common_grid(headers, CohortConfig()).spacing_mm == (1.5, 1.0, 3.0)


def test_rounding_noise_of_a_header_costs_no_grid():
    headers = [header((16, 16, 16), (x, 1, 1)) for x in (1.0000001, 1, 1)]
    assert common_grid(headers, CohortConfig()).shape == (16, 16, 16)


def test_a_large_grid_is_coarsened_isotropically_with_a_warning(caplog):
    config = CohortConfig(max_grid_voxels=32**3)
    grid = common_grid([header((512, 512, 100), (0.5, 0.5, 2.5))], config)
    assert np.prod(grid.shape) <= 32**3
    factor = np.array(grid.spacing_mm) / (0.5, 0.5, 2.5)
    assert factor.max() / factor.min() < 1.01
    assert factor.min() > 5
    assert "coarsened" in caplog.text
    # not needlessly coarse: the sides are multiples of 8, so half of it may be lost
    assert np.prod(grid.shape) > 0.5 * 32**3


def test_a_chosen_spacing_is_kept(caplog):
    config = CohortConfig(max_grid_voxels=32**3, spacing_mm=(1, 2, 3))
    grid = common_grid([header((100, 100, 100))], config)
    assert grid == CommonGrid((104, 56, 40), (1.0, 2.0, 3.0))
    assert caplog.record_tuples[0][1] == logging.WARNING


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 4.0)])
def test_a_voxels_world_position_survives(build, kind, spacing):
    native = Header((11, 14, 9), build.affine_of(kind, spacing)).ras()
    grid = CommonGrid((24, 24, 40), (1.0, 1.3, 0.9))
    placement = place(native, grid)
    rng = np.random.default_rng(0)
    index = rng.uniform(0, 24, (3, 50))
    native_index = placement.scale[:, None] * index + placement.offset[:, None]
    here = placement.affine[:3, :3] @ index + placement.affine[:3, 3:]
    there = native.affine[:3, :3] @ native_index + native.affine[:3, 3:]
    np.testing.assert_allclose(here, there, atol=1e-12)
    # the axes keep their direction and have the common spacing
    columns = placement.affine[:3, :3]
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), grid.spacing_mm, rtol=1e-12)
    centre = placement.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + placement.affine[:3, 3]
    middle = native.affine[:3, :3] @ ((np.array(native.shape) - 1) / 2) + native.affine[:3, 3]
    assert np.linalg.norm(centre - middle) <= 0.5 * native.spacing_mm.max() * np.sqrt(3) + 1e-9


def test_equal_spacing_shifts_by_whole_voxels_and_else_centres_match():
    even = place(header((10, 11, 12)), CommonGrid((16, 16, 16), (1.0, 1.0, 1.0)))
    assert even.is_shift
    assert even.offset.tolist() == [-3.0, -2.0, -2.0]
    finer = place(header((10, 10, 10), (2, 2, 2)), CommonGrid((20, 20, 20), (1.0, 1.0, 1.0)))
    # two voxels share one of the native: their centres lie a quarter voxel off its centre
    assert not finer.is_shift
    np.testing.assert_array_equal(finer.scale, 0.5)
    np.testing.assert_array_equal(finer.offset, -0.25)
    np.testing.assert_array_equal(np.diag(finer.affine), [1, 1, 1, 1])
    np.testing.assert_array_equal(finer.affine[:3, 3], -0.5)


def test_scanned_box_is_false_in_padding():
    native, grid = header((10, 10, 10), (2, 2, 2)), CommonGrid((24, 24, 24), (1.0, 1.0, 1.0))
    mask = scanned_box(native.shape, place(native, grid), grid)
    expected = np.zeros(grid.shape, dtype=bool)
    expected[2:22, 2:22, 2:22] = True
    np.testing.assert_array_equal(mask, expected)
