"""Reading volumes under displacements of a coarser grid, against points in millimetres."""

import pytest
import torch

from dreamorph.spatial import affine_exp
from dreamorph.spatial.grid import DisplacedGrid, extent, points_like, resample, sample
from dreamorph.spatial.velocity import exp_velocity, squared


@pytest.mark.parametrize("shape", [(10, 7), (8, 6, 9)])
@pytest.mark.parametrize("whole", [True, False])
def test_a_volume_is_read_where_its_points_are(shape: tuple[int, ...], whole: bool) -> None:
    ndim, spacing = len(shape), (0.7, 2.0, 1.3)
    edges = extent(shape, spacing[: len(shape)])
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 1, *shape, generator=generator, dtype=torch.float64)
    velocity = torch.randn(2, ndim, *[4] * ndim, generator=generator, dtype=torch.float64)
    log = torch.zeros(2, ndim + 1, ndim + 1, dtype=torch.float64)
    log[:, :ndim] = 0.2 * torch.randn(2, ndim, ndim + 1, generator=generator, dtype=torch.float64)
    affine = affine_exp(log)
    inner = slice(None) if whole else slice(2, 5)
    box = (slice(None), slice(None), *[inner] * ndim)

    grid = DisplacedGrid(shape, edges, affine, box, torch.float64)
    found = grid.sample(volume, squared(grid.convert(velocity, 0.25), 2))

    displacement = resample(exp_velocity(velocity, edges, 2), shape)
    points = points_like(shape, spacing[:ndim], dtype=torch.float64) + displacement
    assert torch.allclose(found, sample(volume, points[box], edges, affine=affine))
