"""What must hold of any registration: analytic warps, orientation, gradients, devices."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamorph.registration import RegistrationConfig, VelocityConfig, descent, register
from dreamorph.registration.pyramid import Pairs
from dreamorph.registration.svf import _Level
from dreamorph.spatial import (
    SpatialTransform,
    affine_exp,
    extent,
    gaussian_smooth,
    identity_affine,
    points_like,
)
from dreamorph.spatial.grid import sample
from tests.registration.volumes import known_warp, texture

QUICK = RegistrationConfig(affine=None, velocity=VelocityConfig(iterations=(20, 20, 20)))
#: As users get it, from a given alignment.
DEFAULT = RegistrationConfig(affine=None)


def recovered(found: SpatialTransform, truth: SpatialTransform, edge: int = 4) -> torch.Tensor:
    """Share of a known map that a registration found, per pair, away from the edge of the grid."""
    inner = (..., *[slice(edge, -edge)] * len(found.shape))
    still = points_like(found.shape, found.spacing_mm)
    left = (found.points() - truth.points())[inner].norm(dim=1).flatten(1).mean(1)
    return 1 - left / (still - truth.points())[inner].norm(dim=1).flatten(1).mean(1)


def swirl(points: torch.Tensor) -> torch.Tensor:
    """A turn of the first two axes by up to 0.2 rad that fades with the distance, in mm."""
    angle = 0.2 * torch.exp(-points.square().sum(1, keepdim=True) / (2 * 8.0**2))
    x, y = points[:, :1], points[:, 1:2]
    turned = [angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y]
    return torch.cat([*turned, points[:, 2:]], dim=1)


def wave(points: torch.Tensor) -> torch.Tensor:
    """A shear by a sine of 1.5 mm and 20 mm length."""
    return torch.cat(
        [points[:, :1] + 1.5 * torch.sin(points[:, 1:2] * (2 * math.pi / 20)), points[:, 1:]], dim=1
    )


@pytest.mark.parametrize("warp", [swirl, wave])
@pytest.mark.parametrize("shape", [(40, 36), (26, 28, 24)])
def test_analytic_warps_are_recovered_to_a_quarter_of_a_voxel(warp, shape: tuple[int, ...]) -> None:
    ndim = len(shape)
    moving, points = texture(shape), points_like(shape, [1.0] * ndim)
    truth = warp(points)
    fixed = sample(moving, truth, extent(shape, [1.0] * ndim))
    transform = register(fixed, moving, DEFAULT, spacing=[1.0] * ndim).transform
    inner = (slice(None), slice(None), *[slice(6, -6)] * ndim)
    distance = (transform.points() - truth)[inner].norm(dim=1)
    assert (points - truth)[inner].norm(dim=1).mean() > 0.5
    assert distance.mean() < 0.25
    assert not transform.folded().any()


@settings(max_examples=3)
@given(seed=st.integers(0, 100), size_mm=st.floats(0.3, 2.0))
def test_maps_do_not_fold_and_their_inverse_leads_back(seed: int, size_mm: float) -> None:
    shape = (32, 32)
    moving, truth = texture(shape, seed), known_warp(shape, size_mm, seed + 1)
    transform = register(truth.warp(moving), moving, QUICK, spacing=(1.0, 1.0)).transform
    assert not transform.folded().any()
    assert recovered(transform, truth).min() > 0.6
    back = transform.inverse().map(transform.points())
    assert (back - points_like(shape, (1.0, 1.0))).norm(dim=1).mean() < 0.05


@pytest.mark.parametrize("config", [QUICK, RegistrationConfig(preset="fast")])
@pytest.mark.parametrize("axes", [(2,), (2, 3), (4,)])
def test_orientation_of_the_arrays_does_not_matter(
    axes: tuple[int, ...], config: RegistrationConfig
) -> None:
    """Volumes stored as LAS, LPS or RAI give the mirrored map of those stored as RAS."""
    shape = (20, 16, 24)
    moving, truth = texture(shape), known_warp(shape, 1.0)
    fixed = truth.warp(moving)
    plain = register(fixed, moving, config).transform
    mirrored = register(fixed.flip(axes), moving.flip(axes), config).transform.displacement()
    for axis in axes:
        mirrored[:, axis - 2] *= -1
    assert recovered(plain, truth).min() > 0.6
    assert (mirrored.flip(axes) - plain.displacement()).norm(dim=1).mean() < 0.05


@pytest.mark.parametrize("similarity", ["lncc", "mind"])
@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 5)])
def test_the_loss_has_the_gradient_it_claims(similarity: str, shape: tuple[int, ...]) -> None:
    ndim = len(shape)
    generator = torch.Generator().manual_seed(5)
    volumes = torch.randn(2, 1, 1, *shape, generator=generator, dtype=torch.float64)
    volumes = torch.stack([gaussian_smooth(v, 1.0) for v in volumes]) * 4
    labels = torch.stack([gaussian_smooth((v > 0).double(), 0.5) for v in volumes])
    ones = torch.ones(1, 1, *shape, dtype=torch.float64)
    pairs = Pairs(
        volumes[0], volumes[1], ones, ones, labels[0], labels[1], tuple(float(n) for n in shape)
    )
    how = VelocityConfig(factor=1)
    config = RegistrationConfig(similarity=similarity, velocity=how)
    level = _Level(pairs, identity_affine(1, ndim), config, how, shape)
    # off the lattice, where linear interpolation has no kinks
    raw = 0.35 + 0.1 * torch.randn(1, ndim, *shape, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        level.loss, raw.requires_grad_(), eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True
    )


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("similarity", "guided"), [("lncc", False), ("lncc", True), ("mind", False)]
)
def test_a_result_is_the_same_in_any_batch_and_order(similarity: str, guided: bool) -> None:
    # with odd edges of the velocity's grid products are rounded by where they lie in memory, and
    # `mind`, which knows the sign of a difference alone, makes tenths of a millimetre of that
    shape = (24, 24, 16)
    moving, truth = texture(shape, batch=3), known_warp(shape, 1.0, batch=3)
    fixed, masks = truth.warp(moving), torch.ones(3, 1, *shape)
    # no two boxes are the same, and that of the batch is none of them
    masks[0, ..., :2], masks[1, ..., :5], masks[1, ..., -3:, :] = 0, 0, 0
    masks[2, :, :, :4], masks[2, ..., -4:] = 0, 0
    # labels also beyond the masks, where they must have no say either
    labels = [(volume > 0).byte() if guided else None for volume in (fixed, moving)]
    for label in labels:
        if label is not None:
            label[2] = 0  # a pair without any label is not guided
    config = RegistrationConfig(preset="fast", similarity=similarity)

    def result(rows: list[int]) -> SpatialTransform:
        own = [label if label is None else label[rows] for label in labels]
        return register(fixed[rows], moving[rows], config, *own, masks[rows], masks[rows]).transform

    together = result([0, 1, 2])
    assert recovered(together, truth)[0] > 0.6  # the pair with least padding
    for rows in ([0], [1], [2], [2, 0]):
        own = result(rows)
        assert torch.allclose(own.post, together[rows].post, rtol=0, atol=1e-10)
        # the deformable step looks at the box of the batch, whose sums round differently
        assert (together[rows].points() - own.points()).norm(dim=1).max() < 0.05


def test_a_scan_with_an_oblique_grid_gets_the_same_map_in_space() -> None:
    shape, inner = (30, 30, 30), (..., *[slice(8, -8)] * 3)
    wide = texture(shape)
    truth = known_warp(shape, 1.2)
    fixed, moving = truth.warp(wide), wide
    log = torch.zeros(1, 4, 4, dtype=torch.float64)
    log[0, 0, 1], log[0, 1, 0], log[0, 1, 2], log[0, 2, 1] = 0.15, -0.15, 0.1, -0.1
    turn = affine_exp(log)
    tilted = SpatialTransform.identity(1, shape, [1.0] * 3).before(turn)
    straight = register(fixed, moving).transform
    oblique = register(tilted.warp(fixed), moving).transform
    assert recovered(straight, truth, edge=8).min() > 0.6
    # a voxel of the tilted grid lies at turn . x in space
    apart = (oblique.points() - straight.map(tilted.points()))[inner].norm(dim=1)
    assert apart.mean() < 0.25


@pytest.mark.gpu
def test_recorded_registrations_end_where_plain_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (32, 32, 28)
    moving, truth = texture(shape), known_warp(shape, 1.0)
    fixed, config = truth.warp(moving), RegistrationConfig(device="cuda")
    recorded = register(fixed, moving, config).transform
    monkeypatch.setattr(descent, "RECORDED", False)
    plain = register(fixed, moving, config).transform
    assert (recorded.points() - plain.points()).norm(dim=1).mean() < 0.02


@pytest.mark.gpu
@pytest.mark.parametrize("padded", [False, True])
def test_cpu_and_gpu_agree(padded: bool) -> None:
    shape = (32, 32, 28)
    moving, truth = texture(shape), known_warp(shape, 1.0)
    fixed, mask = truth.warp(moving), torch.ones(1, 1, *shape)
    if padded:
        mask[..., :3], mask[:, :, -2:] = 0, 0
    maps = [
        register(
            fixed, moving, RegistrationConfig(device=device), fixed_mask=mask, moving_mask=mask
        ).transform
        for device in ("cpu", "cuda")
    ]
    assert recovered(maps[0], truth).min() > 0.6
    assert recovered(maps[1].to("cpu"), truth).min() > 0.6
    assert (maps[0].points() - maps[1].to("cpu").points()).norm(dim=1).mean() < 0.05
