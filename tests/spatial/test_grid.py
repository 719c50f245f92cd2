"""Sampling and resampling of grids."""

import pytest
import torch

from dreamorph.spatial import coarse_shape, extent, points_like, resample, sample
from dreamorph.spatial.grid import covered


@pytest.mark.parametrize("shape", [(5, 8), (4, 7, 6)])
def test_sampling_at_the_voxel_centres_returns_the_volume(shape: tuple[int, ...]) -> None:
    spacing = [1.5, 0.7, 2.0][: len(shape)]
    volume = torch.randn(2, 3, *shape)
    points = points_like(shape, spacing)
    assert torch.allclose(sample(volume, points, extent(shape, spacing)), volume, atol=1e-5)


def test_points_are_centred_millimetres_in_array_order() -> None:
    points = points_like((3, 2), (2.0, 10.0))
    assert points[0, 0, :, 0].tolist() == [-2.0, 0.0, 2.0]
    assert points[0, 1, 0].tolist() == [-5.0, 5.0]


def test_a_linear_ramp_is_interpolated_exactly() -> None:
    shape, spacing = (8, 9, 10), (1.0, 2.0, 0.5)
    ramp = points_like(shape, spacing)
    inside = torch.tensor([[1.3, -2.2, 0.4]]).reshape(1, 3, 1, 1, 1)
    assert torch.allclose(sample(ramp, inside, extent(shape, spacing)), inside, atol=1e-5)


def test_beyond_the_grid_the_border_repeats_or_fades() -> None:
    volume = torch.full((1, 1, 4, 4), 3.0)
    far = torch.full((1, 2, 1, 1), 100.0)
    assert sample(volume, far, (4.0, 4.0)).item() == 3.0
    assert sample(volume, far, (4.0, 4.0), padding="zeros").item() == 0.0


@pytest.mark.parametrize("shape", [(5, 8), (4, 7, 6)])
def test_what_is_covered_tells_fading_borders_from_repeating_ones(
    shape: tuple[int, ...],
) -> None:
    spacing = [1.5, 0.7, 2.0][: len(shape)]
    volume, edges = torch.rand(3, 1, *shape) + 1, extent(shape, spacing)
    wide = torch.tensor(edges).reshape(1, -1, *[1] * len(shape))
    points = (torch.rand(3, len(shape), *shape) - 0.5) * 1.6 * wide
    share = covered(points, shape, edges)
    faded = sample(volume, points, edges, "zeros")
    assert torch.allclose(sample(volume, points, edges) * share, faded, atol=1e-5)
    assert 0 < (share == 1).float().mean() < 1
    assert ((share > 0) & (share < 1)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coordinates_are_exact_whatever_the_type_of_the_volume(dtype: torch.dtype) -> None:
    """In half precision they would be off by a good part of a voxel on a grid this long."""
    shape = (4, 4, 200)
    volume = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    points = points_like(shape, (1.0, 1.0, 1.0)) + 0.3
    expected = sample(volume.float(), points, shape)
    found = sample(volume, points, shape)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, atol=torch.finfo(dtype).eps + 1e-6)


def test_integers_are_sampled_as_floats() -> None:
    volume = torch.arange(4**3, dtype=torch.int16).reshape(1, 1, 4, 4, 4)
    points = points_like((4, 4, 4), (1.0, 1.0, 1.0)) + 0.25
    found = sample(volume, points, (4.0, 4.0, 4.0))
    assert found.dtype == torch.float32
    assert torch.equal(found, sample(volume.float(), points, (4.0, 4.0, 4.0)))


def test_resampling_keeps_a_ramp_in_place() -> None:
    """A coarse grid of the same extent shares its coordinates with the fine one."""
    fine, coarse = points_like((8, 8), (1.0, 1.0)), points_like((4, 4), (2.0, 2.0))
    assert torch.allclose(resample(fine, (4, 4)), coarse)
    assert torch.allclose(resample(coarse, (8, 8))[..., 1:-1, 1:-1], fine[..., 1:-1, 1:-1])


def test_coarse_grids_keep_at_least_four_voxels() -> None:
    assert coarse_shape((48, 10, 3), 4) == (12, 4, 3)
