from dataclasses import replace

import pytest
import torch

from dreamorph.hallucination.folds import determinants, folds, measure_folding
from dreamorph.spatial import corner_determinants, points_like
from tests.hallucination.worlds import SHAPE, SPACING, make_dreams, velocities, warps


class FixedPoints:
    """A transform given by its points alone."""

    def __init__(self, points, spacing_mm=SPACING):
        self._points, self.spacing_mm = points, spacing_mm

    def __len__(self):
        return len(self._points)

    def __getitem__(self, index):
        return FixedPoints(self._points[index], self.spacing_mm)

    def points(self):
        return self._points


def checkerboard(size_mm):
    """Every second voxel moves forth, the others back: central differences see nothing."""
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in SHAPE], indexing="ij")).sum(0)
    points = points_like(SHAPE, SPACING).clone()
    points[0, 0] += size_mm * (1 - 2.0 * (index % 2))
    return points


def central_determinant(points):
    slopes = [torch.gradient(points[0, c], dim=(0, 1, 2)) for c in range(3)]
    matrix = torch.stack([torch.stack(s) for s in slopes]).movedim((0, 1), (-2, -1))
    return torch.linalg.det(matrix[1:-1, 1:-1, 1:-1])


def test_identity_has_determinant_one_everywhere():
    points = points_like((5, 6, 7), (0.5, 1.0, 2.0))[0]
    found = list(determinants(points, (0.5, 1.0, 2.0)))
    assert len(found) == 10
    for values in found:
        assert torch.allclose(values, torch.ones(4, 5, 6))


def test_scaling_has_the_product_of_factors():
    points = (
        points_like((5, 6, 7), (1.0, 1.0, 1.0))[0] * torch.tensor([2, 3, 0.5])[:, None, None, None]
    )
    for values in determinants(points, (1.0, 1.0, 1.0)):
        assert torch.allclose(values, torch.tensor(3.0))


def test_the_first_eight_are_those_of_the_spatial_package():
    points = warps(velocities(1, 2.0, torch.Generator().manual_seed(0))).points()
    theirs = corner_determinants(points, SPACING)[0]
    ours = torch.stack(list(determinants(points[0], SPACING))[:8])
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_2d():
    points = points_like((6, 7), (1.0, 1.0))[0].clone()
    assert measure_folding(points, (1.0, 1.0)).voxels == 0
    points[0, 3, 3] += 3
    assert measure_folding(points, (1.0, 1.0)).voxels > 0


def test_extremes_count_only_inside_the_mask():
    points = points_like(SHAPE, SPACING)[0].clone()
    points[0, 2, 2, 2] += 0.5
    mask = torch.ones(SHAPE, dtype=torch.bool)
    assert measure_folding(points, SPACING, mask).log_max > 0.1
    mask[:6, :6, :6] = False
    found = measure_folding(points, SPACING, mask)
    assert found.log_max == pytest.approx(0, abs=1e-5)


def test_nan_points_count_as_folded():
    points = points_like(SHAPE, SPACING)[0].clone()
    points[0, 5, 5, 5] = float("nan")
    assert measure_folding(points, SPACING).voxels > 0


def test_honest_dreams_pass(world):
    found = folds(world.evidence, world.config)
    assert found.passed
    assert found.value == 0


def test_canary_checkerboard_that_central_differences_miss(world):
    points = checkerboard(0.6)
    assert torch.allclose(central_determinant(points), torch.tensor(1.0), atol=1e-5)
    dreams = replace(world.evidence.dreams, transforms=FixedPoints(points))
    found = folds(world.with_dreams(dreams), world.config)
    assert found.passed is False
    assert found.value > 50


def test_canary_one_folded_warp_among_many(world):
    maps = world.evidence.dreams.transforms
    velocity = maps.velocity.clone()
    velocity[3] *= 30
    found = folds(
        world.with_dreams(replace(world.evidence.dreams, transforms=warps(velocity))), world.config
    )
    assert found.passed is False
    assert "1 of 112 dreams" in found.detail


def test_no_dream_is_not_assessable(world):
    none = make_dreams(world.evidence.reals, [], world.evidence.dreams.transforms[:0])
    assert folds(world.with_dreams(none), world.config).passed is None
