"""The chain affine, diffeomorphism, affine."""

import pytest
import scipy.linalg
import torch

from dreamorph.spatial import (
    SpatialTransform,
    affine_exp,
    affine_log,
    apply_affine,
    gaussian_smooth,
)
from dreamorph.spatial.affine import affine_log_where, identity_affine
from dreamorph.spatial.transform import concatenate


def random_transform(shape: tuple[int, ...], seed: int = 0, batch: int = 2) -> SpatialTransform:
    ndim = len(shape)
    generator = torch.Generator().manual_seed(seed)
    log = torch.zeros(2, batch, ndim + 1, ndim + 1, dtype=torch.float64)
    log[:, :, :ndim] = 0.05 * torch.randn(2, batch, ndim, ndim + 1, generator=generator)
    velocity = torch.randn(batch, ndim, *[n // 2 for n in shape], generator=generator)
    velocity = gaussian_smooth(velocity, 2.0) * 4
    spacing = (1.0, 1.5, 2.0)[:ndim]
    return SpatialTransform(affine_exp(log[0]), velocity, affine_exp(log[1]), shape, spacing)


@pytest.mark.parametrize("shape", [(9, 12), (8, 10, 9)])
def test_the_identity_leaves_volumes_and_labels_alone(shape: tuple[int, ...]) -> None:
    still = SpatialTransform.identity(2, shape, (1.0, 1.5, 2.0)[: len(shape)])
    volume, labels = torch.randn(2, 1, *shape), torch.randint(0, 4, (2, 1, *shape)).byte()
    assert torch.allclose(still.warp(volume), volume, atol=1e-5)
    assert torch.equal(still.warp_labels(labels, 3), labels)
    both = still.warp_with_labels(volume, labels, 3)
    assert torch.allclose(both[0], volume, atol=1e-5)
    assert torch.equal(both[1], labels)


@pytest.mark.parametrize("shape", [(24, 26), (20, 22, 24)])
def test_the_inverse_brings_points_back(shape: tuple[int, ...]) -> None:
    transform = random_transform(shape)
    middle = torch.rand(1, len(shape), 50, generator=torch.Generator().manual_seed(1))
    middle = (middle - 0.5) * 8
    middle = middle.reshape(1, len(shape), 50, *[1] * (len(shape) - 1))
    back = transform.inverse().map(transform.map(middle))
    assert (back - middle).norm(dim=1).max() < 0.1


def test_an_affine_map_composed_before_is_applied_first() -> None:
    transform = random_transform((12, 10, 8), batch=1)
    log = torch.zeros(1, 4, 4, dtype=torch.float64)
    log[0, :3] = 0.1
    affine = affine_exp(log)
    grid = transform.identity(1, transform.shape, transform.spacing_mm).points()
    composed = transform.before(affine).map(grid)
    assert torch.allclose(composed, transform.map(apply_affine(affine, grid)), atol=1e-4)
    undone = transform.before(affine).before(torch.linalg.inv(affine))
    assert torch.allclose(undone.points(), transform.points(), atol=1e-4)


def test_a_whole_voxel_shift_moves_the_array() -> None:
    shift = torch.zeros(1, 4, 4, dtype=torch.float64)
    shift[0, 0, 3] = 2.0
    still = SpatialTransform.identity(1, (6, 6, 6), (2.0, 1.0, 1.0))
    volume = torch.randn(1, 1, 6, 6, 6)
    moved = still.before(affine_exp(shift)).warp(volume)
    assert torch.allclose(moved[0, 0, :-1], volume[0, 0, 1:], atol=1e-5)


def test_labels_are_never_invented_or_averaged() -> None:
    transform = random_transform((16, 16, 16), batch=1)
    labels = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
    labels[..., 4:8, 4:12, 4:12] = 1
    labels[..., 8:12, 4:12, 4:12] = 3
    warped = transform.warp_labels(labels, 3)
    assert set(warped.unique().tolist()) == {0, 1, 3}


def test_batches_join_and_part() -> None:
    transform = random_transform((10, 10, 10), batch=3)
    again = concatenate([transform[:1], transform[1:]])
    assert torch.equal(again.points(), transform.points())
    with pytest.raises(ValueError, match="with and without"):
        concatenate([transform, SpatialTransform.identity(1, (10, 10, 10), (1.0, 1.5, 2.0))])


@pytest.mark.filterwarnings("ignore:logm result may be inaccurate")
def test_affine_logarithms_are_those_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    for ndim in (2, 3):
        logs = torch.zeros(40, ndim + 1, ndim + 1, dtype=torch.float64)
        logs[:, :ndim] = 0.5 * torch.randn(40, ndim, ndim + 1, generator=generator).double()
        logs[:20, :ndim, ndim] *= 1000  # far shifts
        matrices = torch.linalg.matrix_exp(logs)
        matrices[30:, :ndim] *= torch.logspace(-3, 3, 10)[:, None, None]
        expected = torch.stack(
            [torch.from_numpy(scipy.linalg.logm(one).real) for one in matrices.numpy()]
        )
        found = affine_log(matrices)
        assert ((found - expected).abs() / expected.abs().amax((1, 2), True)).max() < 1e-10
    assert affine_log(matrices[:0]).shape == (0, 4, 4)


def test_maps_without_a_logarithm_do_not_harm_others() -> None:
    """A half turn with shear has one eigenvalue twice, which comes out a little off -1."""
    sheared = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    sheared[1, :2, :2] = sheared.new_tensor([[-1.0, 0.3], [0.0, -1.0]])
    sheared[2, :2, :2] = sheared.new_tensor([[-1.3, 0.3], [-0.3, -0.7]])
    sheared[3, 0, 0] = torch.nan
    sheared[4, 0, 0] = 0.0
    sheared[5, :3] *= 1.5
    log, exists = affine_log_where(sheared)
    assert exists.tolist() == [True, False, False, False, False, True]
    assert torch.allclose(affine_exp(log)[[0, 5]], sheared[[0, 5]], atol=1e-10)


def test_affine_log_and_exp_are_inverse() -> None:
    matrix = random_transform((8, 8, 8)).pre
    assert torch.allclose(affine_exp(affine_log(matrix)), matrix, atol=1e-10)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))[None]
    with pytest.raises(ValueError, match="real logarithm"):
        affine_log(mirror)


def test_quick_points_are_on_average_within_a_tenth_of_a_voxel() -> None:
    shape, spacing = (24, 28, 20), (1.5, 1.0, 2.0)
    generator = torch.Generator().manual_seed(0)
    velocity = 12 * gaussian_smooth(torch.randn(3, 3, 12, 14, 10, generator=generator), 2.0)
    log = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    log[:, :, :3] = 0.1 * torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64)
    pre, post = affine_exp(log[0]), affine_exp(log[1])
    transform = SpatialTransform(pre, velocity, post, shape, spacing)
    assert transform.displacement().norm(dim=1).mean() > 1.0
    inner = (slice(None), slice(None), *[slice(4, -4)] * 3)
    apart = (transform.quick_points() - transform.points())[inner].norm(dim=1)
    assert apart.mean() < 0.1
    assert apart.max() < 0.5


def test_quick_points_without_a_velocity_are_the_points() -> None:
    log = torch.zeros(2, 4, 4, dtype=torch.float64)
    log[:, :3] = 0.2 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    eye = identity_affine(2, 3)
    transform = SpatialTransform(affine_exp(log), None, eye, (9, 7, 8), (1.0, 2.0, 1.5))
    assert torch.allclose(transform.quick_points(), transform.points(), atol=1e-5)


def test_the_exponential_of_affine_maps_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(5)
    log = torch.zeros(20, 4, 4, dtype=torch.float64)
    log[:, :3, :3] = torch.randn(20, 3, 3, generator=generator, dtype=torch.float64) / 2
    log[:, :3, 3] = 50 * torch.randn(20, 3, generator=generator, dtype=torch.float64)
    wanted = torch.linalg.matrix_exp(log)
    assert torch.allclose(affine_exp(log), wanted, rtol=1e-10, atol=1e-9)
    assert torch.equal(affine_exp(log)[:, 3], torch.tensor([[0.0, 0, 0, 1]] * 20).double())
