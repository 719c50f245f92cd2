import pytest
import torch

from dreamorph.hallucination.jacobian import determinants, measure_folding
from dreamorph.spatial import corner_determinants, points_like
from tests.hallucination.worlds import SHAPE, SPACING, velocities, warps


def test_identity_has_determinant_one_everywhere():
    points = points_like((5, 6, 7), (0.5, 1.0, 2.0))[0]
    found = list(determinants(points, (0.5, 1.0, 2.0)))
    assert len(found) == 10
    for values in found:
        assert torch.allclose(values, torch.ones(4, 5, 6))


def test_scaling_has_the_product_of_factors():
    factors = torch.tensor([2, 3, 0.5]).reshape(3, 1, 1, 1)
    points = points_like((5, 6, 7), (1.0, 1.0, 1.0))[0] * factors
    for values in determinants(points, (1.0, 1.0, 1.0)):
        assert torch.allclose(values, torch.tensor(3.0))


def test_the_first_eight_are_those_of_the_spatial_package():
    points = warps(velocities(1, 2.0, torch.Generator().manual_seed(0))).points()
    theirs = corner_determinants(points, SPACING)[0]
    ours = torch.stack(list(determinants(points[0], SPACING))[:8])
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_eight_corners_are_not_enough():
    """Cells whose corners all keep their orientation while an inner tetrahedron is turned over."""
    generator = torch.Generator().manual_seed(0)
    cell = points_like((2, 2, 2), (1.0, 1.0, 1.0))[0]
    for _ in range(3000):
        points = cell + 0.45 * torch.randn(3, 2, 2, 2, generator=generator)
        found = torch.cat([d.flatten() for d in determinants(points, (1.0, 1.0, 1.0))])
        if found[:8].min() > 0 and found[8:].min() < 0:
            assert measure_folding(points, (1.0, 1.0, 1.0)).voxels == 8
            return
    pytest.fail("no such cell found")


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
