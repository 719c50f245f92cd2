"""The optimiser: its steps against torch's own, and recorded against plain."""

import pytest
import torch

from dreamorph.registration import descent
from dreamorph.registration.descent import _factors, _move, by_autograd, minimise


def bowl(parameters: torch.Tensor) -> torch.Tensor:
    """A loss of its own for each pair, least at 3, steeper along later axes."""
    steepness = torch.arange(1.0, 1 + parameters.shape[1], device=parameters.device)
    return ((parameters - 3).square() * steepness).sum(1)


def test_steps_of_our_own_are_those_of_torch() -> None:
    start, iterations, step = torch.zeros(2, 3), 25, 0.4
    expected = minimise(start, by_autograd(bowl), step, iterations)
    parameters = start.clone()
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    for values in torch.tensor(_factors(step, iterations)):
        _move(parameters, by_autograd(bowl)(parameters), mean, square, values)
    assert (expected - 3).abs().max() < 1.0
    assert torch.allclose(parameters, expected, atol=1e-4)


def test_a_step_of_length_zero_moves_nothing() -> None:
    parameters, gradient = torch.ones(1, 2), torch.tensor([[3.0, -2.0]])
    _move(parameters, gradient, torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(2))
    assert torch.equal(parameters, torch.ones(1, 2))


@pytest.mark.gpu
def test_recorded_steps_end_where_plain_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).cuda()
    monkeypatch.setattr(descent, "RECORDED", False)
    plain = minimise(start, by_autograd(bowl), 0.4, 40)
    monkeypatch.undo()
    recorded = minimise(start, by_autograd(bowl), 0.4, 40)
    assert torch.allclose(plain, recorded, atol=1e-4)


@pytest.mark.gpu
def test_what_cannot_be_recorded_is_computed_plainly() -> None:
    start = torch.zeros(2, 3).cuda()

    def looking(parameters: torch.Tensor) -> torch.Tensor:
        loss = bowl(parameters)
        assert float(loss.detach().sum()) > -1  # a copy to the CPU
        return loss

    found = minimise(start, by_autograd(looking), 0.4, 40)
    assert torch.allclose(found, minimise(start, by_autograd(bowl), 0.4, 40), atol=1e-4)
