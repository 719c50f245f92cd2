"""Exponential and composition of velocity fields: identities that any implementation must meet."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreamorph.spatial import (
    compose,
    exp_velocity,
    flow,
    gaussian_smooth,
    points_like,
    resample,
)

SHAPES = [(12, 14), (12, 10, 14)]


def smooth_field(shape: tuple[int, ...], seed: int, rms_mm: float = 1.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    field = gaussian_smooth(torch.randn(2, len(shape), *shape, generator=generator), 3.0)
    return field * (rms_mm / field.square().mean().sqrt())


def extent_of(shape: tuple[int, ...], spacing: float = 2.0) -> tuple[float, ...]:
    return tuple(n * spacing for n in shape)


def interior(field: torch.Tensor, margin: int = 3) -> torch.Tensor:
    index = (slice(None), slice(None), *[slice(margin, -margin)] * (field.dim() - 2))
    return field[index]


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_velocity_moves_nothing(shape: tuple[int, ...]) -> None:
    zero = torch.zeros(1, len(shape), *shape)
    assert torch.equal(exp_velocity(zero, extent_of(shape)), zero)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_velocity_shifts_by_itself(shape: tuple[int, ...]) -> None:
    velocity = torch.ones(1, len(shape), *shape) * 1.25
    assert torch.allclose(exp_velocity(velocity, extent_of(shape)), velocity, atol=1e-5)


@given(seed=st.integers(0, 1000), which=st.sampled_from(SHAPES))
def test_backward_flow_undoes_forward_flow(seed: int, which: tuple[int, ...]) -> None:
    velocity, extent = smooth_field(which, seed), extent_of(which)
    there, back = exp_velocity(velocity, extent), exp_velocity(-velocity, extent)
    error = interior(compose(back, there, extent)).norm(dim=1)
    assert error.mean() < 0.1
    assert interior(there).norm(dim=1).mean() > 10 * error.mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_composing_with_nothing_changes_nothing(shape: tuple[int, ...]) -> None:
    field, extent = smooth_field(shape, 4), extent_of(shape)
    still = torch.zeros_like(field)
    assert torch.equal(compose(still, field, extent), field)
    assert torch.allclose(compose(field, still, extent), field, atol=1e-4)


def test_the_inner_map_comes_first() -> None:
    """A shift by 3 mm, then a stretch of x by 1.5 about the centre: x -> 1.5 (x + 3)."""
    shape, extent = (30, 8), (30.0, 8.0)
    points = points_like(shape, (1.0, 1.0))
    shift, stretch = torch.zeros_like(points), torch.zeros_like(points)
    shift[:, 0], stretch[:, 0] = 3.0, 0.5 * points[:, 0]
    found = points + compose(stretch, shift, extent)
    assert torch.allclose(found[:, 0, 6:-6], 1.5 * (points[:, 0, 6:-6] + 3), atol=1e-4)
    assert torch.allclose(found[:, 1], points[:, 1])


def test_half_the_time_twice_is_the_whole_time() -> None:
    velocity, extent = smooth_field((12, 10, 14), 3), extent_of((12, 10, 14))
    half = exp_velocity(velocity / 2, extent)
    whole = exp_velocity(velocity, extent)
    assert interior(compose(half, half, extent) - whole).abs().max() < 0.1


def test_a_scaling_flow_has_its_closed_form() -> None:
    """dx/dt = a x flows to x e^a."""
    shape, spacing, rate = (24, 24, 24), (1.0, 1.0, 1.0), 0.2
    points = points_like(shape, spacing)
    displacement = exp_velocity(-rate * points, extent_of(shape, 1.0), steps=8)
    expected = points * (torch.exp(torch.tensor(-rate)) - 1)
    assert (displacement - expected).abs().max() < 0.02


@given(seed=st.integers(0, 1000), which=st.sampled_from(SHAPES))
def test_points_that_flow_back_come_home(seed: int, which: tuple[int, ...]) -> None:
    velocity, extent = smooth_field(which, seed), extent_of(which)
    points = points_like([2 * n for n in which], [1.0] * len(which))
    there = flow(velocity, points, extent)
    back = flow(-velocity, there, extent)
    inside = interior(back - points, margin=6).norm(dim=1)
    assert inside.mean() < 0.01
    assert interior(there - points, margin=6).norm(dim=1).mean() > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_points_flow_where_the_exponential_puts_them(shape: tuple[int, ...]) -> None:
    velocity, extent = smooth_field(shape, 5), extent_of(shape)
    points = points_like(shape, [2.0] * len(shape))
    fine = resample(velocity, [4 * n for n in shape])
    squared = points + resample(exp_velocity(fine, extent, steps=8), shape)
    assert interior(flow(velocity, points, extent) - squared).norm(dim=1).mean() < 0.05


def test_points_of_a_scaling_flow_have_their_closed_form() -> None:
    shape, rate = (24, 24, 24), 0.2
    points = points_like(shape, (1.0,) * 3)
    inner = 0.4 * points  # read linearly, a linear velocity is exact
    found = flow(-rate * points, inner, extent_of(shape, 1.0))
    expected = inner * torch.exp(torch.tensor(-rate))
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_points_stay_where_nothing_flows(shape: tuple[int, ...]) -> None:
    points = points_like(shape, [2.0] * len(shape))
    zero = torch.zeros(1, len(shape), *shape)
    assert torch.allclose(flow(zero, points, extent_of(shape)), points, atol=1e-5)


def test_points_that_flow_half_the_time_twice_flow_the_whole_time() -> None:
    shape = (12, 10, 14)
    velocity, extent = smooth_field(shape, 3), extent_of(shape)
    points = points_like(shape, [2.0] * 3)
    twice = flow(velocity / 2, flow(velocity / 2, points, extent), extent)
    assert interior(twice - flow(velocity, points, extent)).abs().max() < 0.02


@pytest.mark.parametrize("shape", SHAPES)
def test_a_list_of_points_flows_as_a_grid_of_them(shape: tuple[int, ...]) -> None:
    velocity, extent = smooth_field(shape, 4), extent_of(shape)
    points = points_like(shape, [2.0] * len(shape))
    grid, some = flow(velocity, points, extent), flow(velocity, points.flatten(2), extent)
    assert some.shape == (2, len(shape), points[0, 0].numel())
    assert torch.equal(some, grid.flatten(2))


def test_flowing_points_have_gradients() -> None:
    velocity = smooth_field((5, 6), 7).double().requires_grad_()
    points = points_like((4, 3), (2.0, 2.0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, x: flow(v, x, (10.0, 12.0)), (velocity, points), atol=1e-4, eps=1e-6
    )


def test_points_flow_along_every_velocity_of_a_batch() -> None:
    shape = (12, 14)
    velocity, extent = smooth_field(shape, 2), extent_of(shape)
    points = points_like(shape, (2.0, 2.0))
    both = flow(velocity, points, extent)
    assert torch.allclose(both[1:], flow(velocity[1:], points, extent))
    assert not torch.allclose(both[0], both[1])


def test_the_exponential_has_a_gradient() -> None:
    velocity = smooth_field((5, 6), 7).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: exp_velocity(v, (10.0, 12.0), steps=2), velocity, atol=1e-4, eps=1e-5
    )
