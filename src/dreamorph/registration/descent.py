"""Gradient descent of a batch of pairs."""

import logging
import math
from collections.abc import Callable

import torch

from dreamorph.parallel import raise_if_stopped

logger = logging.getLogger(__name__)

#: Share of the first step length that is left at the last iteration.
LAST_STEP = 0.1
#: Of Adam: memory of the mean and of the square of the gradient, and what keeps from dividing by 0.
MEAN_MEMORY, SQUARE_MEMORY, EPSILON = 0.9, 0.999, 1e-8
#: Steps on a GPU before one is recorded: libraries and tables set themselves up in them.
REHEARSALS = 2
#: Voxels of a batch from which a GPU's kernels outlast their launches: no use in recording them.
RECORDED_VOXELS = 2**23

Loss = Callable[[torch.Tensor], torch.Tensor]


def minimise(
    start: torch.Tensor, loss: Loss, step: float, iterations: int, voxels: float = math.inf
) -> torch.Tensor:
    """Adam (Kingma and Ba, ICLR 2015) with steps that shrink along a cosine.

    Args:
        start: parameters of all pairs, pairs first.
        loss: of each pair `(B,)`; a pair's depends on its own parameters alone.
        step: first step length.
        iterations: number of steps.
        voxels: how many the loss goes over. On a GPU, where these are few, one step is recorded and
            replayed, so that no kernel waits for the interpreter. The loss must not look at values
            then: no branch, no copy to the CPU.

    Returns:
        The parameters after the last step.
    """
    if voxels < RECORDED_VOXELS and start.is_cuda and iterations > 2 * REHEARSALS:
        recorded = _replayed(start, loss, step, iterations)
        if recorded is not None:
            return recorded
    parameters = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=step)
    for iteration in range(iterations):
        raise_if_stopped()
        optimiser.param_groups[0]["lr"] = step * _cosine(iteration / iterations)
        (parameters.grad,) = torch.autograd.grad(loss(parameters).sum(), [parameters])
        optimiser.step()
    return parameters.detach()


def _replayed(start: torch.Tensor, loss: Loss, step: float, iterations: int) -> torch.Tensor | None:
    """The same by one recorded step; None where it cannot be recorded."""
    parameters = start.detach().clone().requires_grad_()
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    factors = torch.tensor(_factors(step, iterations), device=start.device, dtype=start.dtype)
    now = torch.zeros_like(factors[0])

    def one() -> None:
        (gradient,) = torch.autograd.grad(loss(parameters).sum(), [parameters])
        _move(parameters, gradient, mean, square, now)

    side = torch.cuda.Stream(start.device)
    side.wait_stream(torch.cuda.current_stream(start.device))
    with torch.cuda.stream(side):
        for _ in range(REHEARSALS):
            one()  # a step of length zero
    torch.cuda.current_stream(start.device).wait_stream(side)
    mean.zero_()
    square.zero_()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            one()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        logger.debug("a step cannot be recorded: %s", error)
        return None
    for values in factors:
        raise_if_stopped()
        now.copy_(values)
        graph.replay()
    found = parameters.detach().clone()
    del graph  # and with it the memory that it holds
    return found


@torch.no_grad()
def _move(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    now: torch.Tensor,
) -> None:
    """One step of Adam in place, `now` one of the `_factors`."""
    mean.lerp_(gradient, 1 - MEAN_MEMORY)
    square.mul_(SQUARE_MEMORY).addcmul_(gradient, gradient, value=1 - SQUARE_MEMORY)
    size = square.sqrt().mul_(now[1]).add_(EPSILON)
    parameters.sub_(torch.div(mean, size, out=size).mul_(now[0]))


def _factors(step: float, iterations: int) -> list[tuple[float, float]]:
    """Per step: its length over the bias of the mean, and one over the root of that of the square.

    Both averages begin at zero; Adam divides their bias out.
    """
    return [
        (
            step * _cosine(done / iterations) / (1 - MEAN_MEMORY ** (done + 1)),
            (1 - SQUARE_MEMORY ** (done + 1)) ** -0.5,
        )
        for done in range(iterations)
    ]


def _cosine(done: float) -> float:
    return LAST_STEP + (1 - LAST_STEP) * 0.5 * (1 + math.cos(math.pi * done))
