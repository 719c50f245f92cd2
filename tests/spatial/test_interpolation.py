"""The compiled interpolation against `grid_sample`."""

import pytest
import torch
from torch.nn import functional

from dreamorph.spatial import interpolation
from dreamorph.spatial.interpolation import follow, interpolate


def reference(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    where = points.expand(len(volume), *points.shape[1:]).movedim(1, -1)
    return functional.grid_sample(
        volume, where, mode="bilinear", padding_mode="border", align_corners=False
    )


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 9, 4), (3, 1, 1), (2, 2, 40)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_and_gradients_are_those_of_grid_sample(
    shape: tuple[int, ...], shared: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(3, 2, *shape, generator=generator)
    # also beyond the border, where nothing changes any more
    points = 1.3 * (2 * torch.rand(1 if shared else 3, 3, 7, 8, 9, generator=generator) - 1)
    outer = torch.randn(3, 2, 7, 8, 9, generator=generator)
    grads = []
    for way in (interpolate, reference):
        given = volume.clone().requires_grad_(), points.clone().requires_grad_()
        found = way(*given)
        grads.append((found, *torch.autograd.grad(found, given, outer)))
    for ours, theirs in zip(*grads, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=2e-4)


def test_one_gradient_alone() -> None:
    volume, points = torch.randn(2, 1, 4, 5, 6), torch.zeros(2, 3, 4, 4, 4)
    grown = interpolate(volume, points.requires_grad_())
    assert torch.autograd.grad(grown.sum(), points)[0].shape == points.shape
    grown = interpolate(volume.requires_grad_(), points.detach())
    (by_volume,) = torch.autograd.grad(grown.sum(), volume)
    assert by_volume.sum() == pytest.approx(grown.numel(), rel=1e-5)


@pytest.mark.parametrize(
    ("volume", "points"),
    [
        ((1, 1, 4, 4, 4), (1, 2, 3, 3, 3)),
        ((2, 1, 4, 4, 4), (0, 3, 3, 3, 3)),
        ((1, 1, 4, 4, 4), (3, 3, 3, 3, 3)),
        ((3, 1, 4, 4, 4), (2, 3, 3, 3, 3)),
        ((1, 1, 4, 4, 4), (1, 3, 5)),
        ((1, 1, 0, 4, 4), (1, 3, 3, 3, 3)),
    ],
)
def test_what_does_not_fit_is_refused(volume: tuple[int, ...], points: tuple[int, ...]) -> None:
    with pytest.raises((RuntimeError, IndexError)):
        interpolate(torch.zeros(volume), torch.zeros(points))


def test_volumes_in_any_order_of_memory() -> None:
    volume = torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d)
    points = torch.rand(2, 4, 4, 4, 3).movedim(-1, 1)
    assert torch.allclose(interpolate(volume, points), reference(volume, points), atol=1e-5)
    none = interpolate(volume[:0], points[:0])
    assert none.shape == (0, 3, 4, 4, 4)


def test_points_that_are_no_numbers_stay_within_the_volume() -> None:
    points = torch.tensor([float("nan"), float("inf"), -float("inf")]).reshape(1, 3, 1, 1, 1)
    volume = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    assert 0 <= float(interpolate(volume, points)) <= 23
    assert torch.isfinite(interpolate(volume, torch.full((1, 3, 9, 9, 9), float("nan")))).all()


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_other_types_and_dimensions_take_grid_sample(padding: str) -> None:
    volume, points = torch.randn(1, 1, 5, 6).double(), torch.rand(2, 2, 3, 3).double()[:1]
    where = points.movedim(1, -1)
    expected = functional.grid_sample(volume, where, padding_mode=padding, align_corners=False)
    assert torch.equal(interpolate(volume, points, padding), expected)


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 9, 4), (2, 2, 40)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_points_follow_a_velocity_as_they_do_step_by_step(
    shape: tuple[int, ...], shared: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(0)
    stretch = 0.05 * torch.randn(3, 3, *shape, generator=generator)
    # more than a block, the last one not full, some beyond the border
    points = 2.4 * (torch.rand(1 if shared else 3, 3, 9, 8, 9, generator=generator) - 0.5)
    found = follow(stretch, points, 2)
    monkeypatch.delattr(interpolation.loops, "flow")  # else both might have come the same way
    with pytest.raises(AttributeError):
        follow(stretch, points, 2)
    by_steps = follow(stretch.requires_grad_(), points, 2)
    assert by_steps.requires_grad
    assert found.shape == by_steps.shape == (3, 3, 9, 8, 9)
    assert torch.allclose(found, by_steps, atol=1e-4)
    assert not torch.allclose(found, points.expand(3, -1, -1, -1, -1), atol=0.02)
