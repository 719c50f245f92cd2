from dataclasses import replace

import torch

from dreamorph.hallucination.folds import folds
from dreamorph.spatial import points_like
from tests.hallucination.worlds import SHAPE, SPACING, warps


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


def test_honest_dreams_pass(few):
    found = folds(few.evidence, few.config)
    assert found.passed
    assert found.value == 0


def test_canary_checkerboard_that_central_differences_miss(few):
    points = checkerboard(0.6)
    assert torch.allclose(central_determinant(points), torch.tensor(1.0), atol=1e-5)
    dreams = replace(few.evidence.dreams, transforms=FixedPoints(points))
    found = folds(few.with_dreams(dreams), few.config)
    assert found.passed is False
    assert found.value > 50


def test_canary_one_folded_warp_among_many(few):
    maps = few.evidence.dreams.transforms
    velocity = maps.velocity.clone()
    velocity[3] *= 30
    found = folds(
        few.with_dreams(replace(few.evidence.dreams, transforms=warps(velocity))), few.config
    )
    assert found.passed is False
    assert "1 of 8 dreams" in found.detail


def test_no_dream_is_not_assessable(few):
    none = few.evidence.dreams.select(slice(0, 0))
    assert folds(few.with_dreams(none), few.config).passed is None
