"""Gradient descent of a batch of pairs."""

import logging
import math
from collections.abc import Callable
from functools import lru_cache

import torch

from dreamorph.parallel import raise_if_stopped
from dreamorph.spatial.on_gpu import fused

logger = logging.getLogger(__name__)

#: Share of the first step length that is left at the last iteration.
LAST_STEP = 0.1
#: Of Adam: memory of the mean and of the square of the gradient, and what keeps from dividing by 0.
MEAN_MEMORY, SQUARE_MEMORY, EPSILON = 0.9, 0.999, 1e-8
#: Steps on a GPU before one is recorded: libraries and tables set themselves up in them.
REHEARSALS = 1
#: Whether steps on a GPU are recorded: one is, and replayed, so that no kernel waits for the
#: interpreter.
RECORDED = True

#: Of the losses of all pairs, by the parameters.
Gradient = Callable[[torch.Tensor], torch.Tensor]


def by_autograd(loss: Callable[[torch.Tensor], torch.Tensor]) -> Gradient:
    """The gradient of a loss `(B,)` of each pair, which depends on its own parameters alone."""

    def gradient(parameters: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            parameters = parameters.detach().requires_grad_()
            (found,) = torch.autograd.grad(loss(parameters).sum(), [parameters])
        return found

    return gradient


def minimise(start: torch.Tensor, gradient: Gradient, step: float, iterations: int) -> torch.Tensor:
    """Adam (Kingma and Ba, ICLR 2015) with steps that shrink along a cosine.

    Args:
        start: parameters of all pairs, pairs first.
        gradient: of the loss by the parameters; a pair's depends on its own parameters alone. On a
            GPU it must not look at values: no branch, no copy to the CPU.
        step: first step length.
        iterations: number of steps.

    Returns:
        The parameters after the last step.
    """
    if RECORDED and start.is_cuda and iterations > 2 * REHEARSALS:
        recorded = _replayed(start, gradient, step, iterations)
        if recorded is not None:
            return recorded
    parameters = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=step)
    for iteration in range(iterations):
        raise_if_stopped()
        optimiser.param_groups[0]["lr"] = step * _cosine(iteration / iterations)
        parameters.grad = gradient(parameters.detach())
        optimiser.step()
    return parameters.detach()


def _replayed(
    start: torch.Tensor, gradient: Gradient, step: float, iterations: int
) -> torch.Tensor | None:
    """The same by one recorded step; None where it cannot be recorded."""
    parameters = start.detach().clone()
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    factors = torch.tensor(_factors(step, iterations), device=start.device, dtype=start.dtype)
    now = torch.zeros_like(factors[0])

    def one() -> None:
        _move(parameters, gradient(parameters), mean, square, now)

    side = _side(start.device)
    side.wait_stream(torch.cuda.current_stream(start.device))
    try:
        with torch.cuda.stream(side):
            for _ in range(REHEARSALS):
                one()  # a step of length zero
            mean.zero_()
            square.zero_()
            graph = _recorded(one)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        logger.debug("a step cannot be recorded: %s", error)
        return None
    finally:
        torch.cuda.current_stream(start.device).wait_stream(side)
    for values in factors:
        raise_if_stopped()
        now.copy_(values)
        graph.replay()
    found = parameters.clone()
    del graph  # and with it the memory that it holds
    return found


@lru_cache
def _side(device: torch.device) -> torch.cuda.Stream:
    """One for all: libraries keep memory for every stream that they have seen."""
    return torch.cuda.Stream(device)


def _recorded(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """What work does on the current stream, to be replayed.

    `torch.cuda.graph` empties torch's cache each time, which takes 30 ms; that is done here where
    memory may be short, for nothing can be freed while work is recorded.
    """
    free, all_of_it = torch.cuda.mem_get_info()
    if free < all_of_it / 2:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin()
    try:
        work()
    finally:
        graph.capture_end()
    return graph


@torch.no_grad()
def _move(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    now: torch.Tensor,
) -> None:
    """One step of Adam in place, `now` one of the `_factors`."""
    if fused(parameters):
        from dreamorph.registration.fused import step_of_adam

        memories = (MEAN_MEMORY, SQUARE_MEMORY)
        step_of_adam(parameters, gradient, mean, square, now, memories, EPSILON)
        return
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
