"""Linear interpolation at points: `grid_sample`, and on a CPU a compiled loop in its place."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dreamorph.spatial import interpolation_loops as loops

#: Points per thread from which on another thread is worth its start.
WORTH = 2**15
#: Voxels of a channel that can be numbered.
MOST = 2**31


def interpolate(
    volume: torch.Tensor, points: torch.Tensor, padding: str = "border"
) -> torch.Tensor:
    """Values of volumes at points, linearly.

    Args:
        volume: `(B, C, *shape)`.
        points: `(B or 1, ndim, *out)` in units of `grid_sample` with `align_corners=False` (an edge
            of the grid is from -1 to 1), the last axis first.
        padding: `border` or `zeros`, as in `grid_sample`.

    Returns:
        `(B, C, *out)`.
    """
    if padding == "border" and _can_loop(volume, points):
        found: torch.Tensor = _Looped.apply(volume, points)
        return found
    if points.shape[0] != volume.shape[0]:
        points = points.expand(volume.shape[0], *points.shape[1:])
    return functional.grid_sample(
        volume, points.movedim(1, -1), mode="bilinear", padding_mode=padding, align_corners=False
    )


def follow(stretch: torch.Tensor, points: torch.Tensor, steps: int) -> torch.Tensor:
    """Where points come to along a velocity, by the classical Runge-Kutta method.

    Args:
        stretch: `(B, ndim, *coarse)`, the velocity times the length of a step.
        points: `(B or 1, ndim, *out)`, in the units and order of `interpolate`, as the velocity.
        steps: how many.

    Returns:
        `(B, ndim, *out)`.
    """
    wanted = torch.is_grad_enabled() and (stretch.requires_grad or points.requires_grad)
    if _can_loop(stretch, points) and stretch.shape[1] == 3 and not wanted:
        return _followed(stretch, points, steps)
    at = points
    for _ in range(steps):
        first = interpolate(stretch, at)
        second = interpolate(stretch, at + 0.5 * first)
        third = interpolate(stretch, at + 0.5 * second)
        last = interpolate(stretch, at + third)
        at = at + (first + 2 * (second + third) + last) / 6
    return at


def _followed(stretch: torch.Tensor, points: torch.Tensor, steps: int) -> torch.Tensor:
    """The same in a compiled loop: no look goes over memory, which takes a third of the time."""
    places = points.flatten(2).contiguous()
    out = stretch.new_empty(*stretch.shape[:2], places.shape[2])
    values, at, made = _array(stretch.contiguous()), _array(places), _array(out)

    def part(first: int, last: int) -> None:
        loops.flow(values, at, made, steps, first, last)

    _divide(part, places.shape[2], len(stretch) * places.shape[2])
    return out.reshape(*out.shape[:2], *points.shape[2:])


def _can_loop(volume: torch.Tensor, points: torch.Tensor) -> bool:
    """Whether the compiled loop takes these; what it does not take `grid_sample` may refuse."""
    return (
        volume.device.type == points.device.type == "cpu"
        and volume.dtype == points.dtype == torch.float32
        and volume.dim() == points.dim() == 5
        and points.shape[1] == 3
        and len(points) in (1, len(volume))
        and 0 < math.prod(volume.shape[2:]) < MOST
    )


class _Looped(torch.autograd.Function):
    """`grid_sample` of 3D volumes in single precision on a CPU, two to four times as fast.

    Of a few hundred points it takes as long. Points that are not numbers lie in the first voxel.
    """

    @staticmethod
    def forward(ctx: Any, volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        volume, places = volume.contiguous(), points.flatten(2).contiguous()
        ctx.save_for_backward(volume, places)
        ctx.shape = points.shape
        out = volume.new_empty(*volume.shape[:2], places.shape[2])
        values, at, found = _array(volume), _array(places), _array(out)

        def part(first: int, last: int) -> None:
            loops.interpolate(values, at, found, first, last)

        _divide(part, places.shape[2], len(volume) * places.shape[2])
        return out.reshape(*out.shape[:2], *points.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        volume, places = ctx.saved_tensors
        gradient = gradients[0].flatten(2).contiguous()
        by_volume = _by_volume(volume, places, gradient) if ctx.needs_input_grad[0] else None
        by_points = None
        if ctx.needs_input_grad[1]:
            by_points = _by_points(volume, places, gradient).reshape(ctx.shape)
        return by_volume, by_points


def _by_volume(volume: torch.Tensor, places: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(volume)
    at, given, made = _array(places), _array(gradient), _array(out)

    def part(first: int, last: int) -> None:
        loops.scatter(at, given, made, first, last)

    _divide(part, len(volume), len(volume) * places.shape[2])
    return out


def _by_points(volume: torch.Tensor, places: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    out = volume.new_empty(len(volume), *places.shape[1:])
    values, at, given, made = _array(volume), _array(places), _array(gradient), _array(out)

    def part(first: int, last: int) -> None:
        loops.differentiate(values, at, given, made, first, last)

    _divide(part, places.shape[2], len(volume) * places.shape[2])
    return out if len(places) == len(volume) else out.sum(0, keepdim=True)


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy()
    return array


def _divide(work: Callable[[int, int], None], count: int, points: int) -> None:
    """Do `count` things on as many threads as torch has, where there are points enough."""
    threads = max(1, min(torch.get_num_threads(), count, points // WORTH))
    if threads == 1:
        work(0, count)
        return
    cuts = np.linspace(0, count, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))
