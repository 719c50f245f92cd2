"""Folds: what one-sided differences at all corners see and central differences miss."""

import pytest
import torch

from dreamorph.spatial import corner_determinants, folded_voxels, points_like


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
def test_the_identity_has_determinant_one(shape: tuple[int, ...]) -> None:
    spacing = [1.0, 2.0, 0.5][: len(shape)]
    determinants = corner_determinants(points_like(shape, spacing), spacing)
    assert determinants.shape == (1, 2 ** len(shape), *[n - 1 for n in shape])
    assert torch.allclose(determinants, torch.ones_like(determinants), atol=1e-5)


def test_a_linear_map_has_its_own_determinant_everywhere() -> None:
    matrix = torch.tensor([[1.2, 0.1, 0.0], [0.0, 0.9, 0.3], [0.2, 0.0, 1.1]])
    points = torch.einsum("ij,bjxyz->bixyz", matrix, points_like((5, 5, 5), (1.0, 2.0, 3.0)))
    determinants = corner_determinants(points, (1.0, 2.0, 3.0))
    assert torch.allclose(determinants, torch.linalg.det(matrix).expand_as(determinants), atol=1e-4)


def test_a_checkerboard_folds_though_central_differences_see_nothing() -> None:
    size = 8
    index = torch.arange(size)
    board = (-1.0) ** (index[:, None, None] + index[None, :, None] + index[None, None, :])
    displacement = torch.zeros(1, 3, size, size, size)
    displacement[0, 0] = 0.6 * board
    central = (displacement[0, 0, 2:] - displacement[0, 0, :-2]) / 2
    assert central.abs().max() < 1e-6
    points = displacement + points_like((size,) * 3, (1.0, 1.0, 1.0))
    assert corner_determinants(points, (1.0, 1.0, 1.0)).min() == pytest.approx(-0.2, abs=1e-5)
    assert folded_voxels(points, (1.0, 1.0, 1.0))[:, 1:-1].all()


def test_one_crossed_pair_of_voxels_is_found_where_it_is() -> None:
    points = points_like((8, 8, 8), (1.0, 1.0, 1.0)).clone()
    points[0, 0, 4, 4, 4] += 1.5
    folded = folded_voxels(points, (1.0, 1.0, 1.0))[0]
    where = folded.nonzero()
    assert folded[4, 4, 4]
    assert where.min() >= 3
    assert where.max() <= 5
