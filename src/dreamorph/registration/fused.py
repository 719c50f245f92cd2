"""Local correlation, roughness and steps of Adam on a GPU, by Triton's programs."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from dreamorph.registration import kernels
from dreamorph.spatial.on_gpu import launch

if TYPE_CHECKING:
    from dreamorph.registration.roughness import Roughness
    from dreamorph.registration.similarity import LocalCorrelation


class Correlated(torch.autograd.Function):
    """Local correlation `(B,)` of moved volumes `(B, 1, *shape)` with prepared ones."""

    @staticmethod
    def forward(
        ctx: Any, moved: torch.Tensor, local: "LocalCorrelation", flat: float
    ) -> torch.Tensor:
        moved = moved.contiguous()
        shape, windows = moved.shape[2:], local.weight.shape[2:]
        ctx.local, ctx.sizes = local, (*shape, *windows)
        ctx.edges = {"WINDOW": local.window, "STRIDE": local.stride}
        planes = moved.new_empty(len(moved), 3, shape[0], *windows[1:])
        launch(
            kernels.moments, moved, math.prod(planes.shape[2:]), moved, local.fixed, local.mask,
            planes, *ctx.sizes, **ctx.edges,
        )  # fmt: skip
        value, by = moved.new_zeros(len(moved)), moved.new_empty(len(moved), 3, *windows)
        launch(
            kernels.correlate, moved, math.prod(windows), planes, local.share, local.mean,
            local.factor, value, by, flat, local.granted, *ctx.sizes, **ctx.edges,
        )  # fmt: skip
        ctx.save_for_backward(moved, by)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        moved, by = ctx.saved_tensors
        local: LocalCorrelation = ctx.local
        planes = moved.new_empty(*by.shape[:2], moved.shape[2], *by.shape[3:])
        launch(
            kernels.spread, moved, math.prod(planes.shape[2:]), by, planes, *ctx.sizes, **ctx.edges
        )
        made = torch.empty_like(moved)
        launch(
            kernels.correlate_back, moved, math.prod(moved.shape[2:]), planes, moved, local.fixed,
            local.mask, gradients[0].contiguous(), made, *ctx.sizes, **ctx.edges,
        )  # fmt: skip
        return made, None, None


def add_gradient(
    form: "Roughness", velocity: torch.Tensor, share: torch.Tensor, total: torch.Tensor
) -> None:
    """Adds the gradient of the roughness of `(B, 3, *shape)`, times `share` `(B,)`, to `total`."""
    shape = velocity.shape[2:]
    launch(
        kernels.roughness, velocity.flatten(0, 1), math.prod(shape), velocity.contiguous(),
        form.coefficients, form.bending, len(form.bending), share, total, *shape,
    )  # fmt: skip


def step_of_adam(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    now: torch.Tensor,
    memories: tuple[float, float],
    epsilon: float,
) -> None:
    """In place, `now` `(2,)` the length of the step and what the root of the square is times."""
    count = parameters.numel()
    launch(
        kernels.adam, parameters[None], count, parameters, gradient.contiguous(), mean, square,
        now, count, *memories, epsilon,
    )  # fmt: skip
