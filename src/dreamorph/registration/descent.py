"""Gradient descent of a batch of pairs."""

import math
from collections.abc import Callable

import torch

from dreamorph.parallel import raise_if_stopped

#: Share of the first step length that is left at the last iteration.
LAST_STEP = 0.1


def minimise(
    start: torch.Tensor,
    loss: Callable[[torch.Tensor], torch.Tensor],
    step: float,
    iterations: int,
) -> torch.Tensor:
    """Adam (Kingma and Ba, ICLR 2015) with steps that shrink along a cosine.

    Args:
        start: parameters of all pairs, pairs first.
        loss: of each pair `(B,)`; a pair's depends on its own parameters alone.
        step: first step length.
        iterations: number of steps.

    Returns:
        The parameters after the last step.
    """
    parameters = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=step)
    for iteration in range(iterations):
        raise_if_stopped()
        optimiser.param_groups[0]["lr"] = step * _cosine(iteration / iterations)
        (parameters.grad,) = torch.autograd.grad(loss(parameters).sum(), [parameters])
        optimiser.step()
    return parameters.detach()


def _cosine(done: float) -> float:
    return LAST_STEP + (1 - LAST_STEP) * 0.5 * (1 + math.cos(math.pi * done))
