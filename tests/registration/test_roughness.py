"""The penalty of rough velocities against differences of the fields themselves."""

import pytest
import torch

from dreamorph.registration.roughness import Roughness


def by_differences(
    velocity: torch.Tensor, extent_mm: tuple[float, ...], diffusion: float, bending: torch.Tensor
) -> torch.Tensor:
    total = torch.zeros(len(velocity), dtype=velocity.dtype)
    for axis, edge in enumerate(extent_mm):
        gradient = torch.diff(velocity, dim=2 + axis) * (velocity.shape[2 + axis] / edge)
        total = total + diffusion * _mean_square(gradient)
        for other in range(len(extent_mm)):
            total = total + bending * _mean_square(torch.diff(gradient, dim=2 + other))
    return total


def _mean_square(field: torch.Tensor) -> torch.Tensor:
    return field.square().sum(1).flatten(1).mean(1) if field.numel() else torch.zeros(len(field))


@pytest.mark.parametrize("shape", [(9, 7), (6, 8, 5), (1, 6, 2), (4, 4, 4), (6, 5, 1), (6, 1, 1)])
@pytest.mark.parametrize("bending", [(0.3,), (0.2, 0.0, 0.7)])
def test_the_form_is_the_mean_square_of_differences(
    shape: tuple[int, ...], bending: tuple[float, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, len(shape), *shape, generator=generator, dtype=torch.float64)
    weights = torch.tensor(bending, dtype=torch.float64)
    extent_mm = tuple(1.7 * n + axis for axis, n in enumerate(shape))
    found, expected = start.clone().requires_grad_(), start.clone().requires_grad_()
    value = Roughness(shape, extent_mm, 0.05, weights)(found)
    reference = by_differences(expected, extent_mm, 0.05, weights)
    assert torch.allclose(value, reference)
    outer = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (value * outer).sum().backward()
    (reference * outer).sum().backward()
    assert torch.allclose(found.grad, expected.grad)


def test_what_is_straight_is_not_bent() -> None:
    """A velocity that grows evenly has the same gradient everywhere."""
    line = torch.arange(8.0, dtype=torch.float64).reshape(1, 1, 8, 1, 1)
    velocity = line.expand(1, 3, 8, 8, 8).contiguous()
    edges = (16.0, 16.0, 16.0)
    none = Roughness((8, 8, 8), edges, 0.0, torch.ones(1, dtype=torch.float64))(velocity)
    assert torch.allclose(none, torch.zeros(1, dtype=torch.float64), atol=1e-12)
    # three components that each grow by half a millimetre a millimetre
    slope = Roughness((8, 8, 8), edges, 1.0, torch.ones(1, dtype=torch.float64))(velocity)
    assert torch.allclose(slope, torch.tensor([0.75], dtype=torch.float64))
