"""Smoothing, flowing, reading and looking for folds on a GPU, by Triton's programs.

Each does what its namesake does for tensors anywhere, but goes over memory once.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from dreamorph.spatial import kernels
from dreamorph.spatial.on_gpu import launch, programs


def smoothed(field: torch.Tensor, taps: tuple[float, ...], axis: int) -> torch.Tensor:
    """`(B, C, *shape)` by a symmetric filter along one spatial axis, mirrored at the border.

    `taps` are of offsets 0, 1, ..., no more than the axis has voxels. It is its own transpose.
    """
    field = field.contiguous()
    out = torch.empty_like(field)
    shape = field.shape[2:]
    count = math.prod(shape)
    launch(
        kernels.smooth, field.flatten(0, 1), count, field, _both_sides(taps, field.device), out,
        count, shape[axis], math.prod(shape[axis + 1 :]), RADIUS=len(taps) - 1,
    )  # fmt: skip
    return out


@lru_cache(maxsize=64)
def _both_sides(taps: tuple[float, ...], device: torch.device) -> torch.Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor([*taps[:0:-1], *taps], device=device)


class Flow:
    """The exponential of `2**steps` times a field `(B, 3, *shape)`, and its gradient by the field.

    Attributes:
        fields: what each step began with, and the displacement in the end, `(B, 3, *shape)` in
            units and order of `grid_sample`, but for the first.
        units: what the first field is times to be in these units, x first.
        flip: whether its components are in the order z, y, x.
    """

    def __init__(
        self,
        start: torch.Tensor,
        steps: int,
        units: Sequence[float] = (1.0, 1.0, 1.0),
        flip: bool = False,
    ) -> None:
        self.units, self.flip = units, flip
        self.fields = [start.contiguous()]
        for step in range(steps + 1):
            self.fields.append(torch.empty_like(self.fields[-1]))
            self._run(kernels.flow, step, self.fields[-1])

    def gradient(self, given: torch.Tensor) -> torch.Tensor:
        """The gradient by the first field, of that by the displacement in the end."""
        for step in reversed(range(len(self.fields) - 1)):
            made = torch.zeros_like(given)
            self._run(kernels.flow_back, step, given.contiguous(), made)
            given = made
        return given

    def _run(self, program: Any, step: int, *others: torch.Tensor) -> None:
        """A midpoint step first, then squarings."""
        field = self.fields[step]
        stretch, keep = (0.5, 0.0) if step == 0 else (1.0, 1.0)
        units, flip = (self.units, self.flip) if step == 0 else ((1.0, 1.0, 1.0), False)
        shape = field.shape[2:]
        launch(
            program, field, math.prod(shape), field, *others, stretch, keep, *units, *shape,
            FLIP=flip,
        )  # fmt: skip


class Reading:
    """Volumes `(B, C, *shape)` at `A(x + u(x))` for the voxels x of a box.

    `maps` `(B, 3, 4)` hold A and displacements `(B, 3, *coarse)` u, in units of `grid_sample`;
    `first` and `box` are the box's first voxel and shape.
    """

    def __init__(
        self, volume: torch.Tensor, maps: torch.Tensor, first: Sequence[int], box: Sequence[int]
    ) -> None:
        self.volume, self.maps = volume.contiguous(), maps.contiguous()
        self.first, self.box = tuple(first), tuple(box)

    def read(self, displacement: torch.Tensor) -> torch.Tensor:
        """`(B, C, *box)`."""
        out = self.volume.new_empty(*self.volume.shape[:2], *self.box)
        self._run(kernels.read, displacement, out)
        return out

    def gradient(self, displacement: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """The gradient by the displacement, of that by what was read."""
        fine = given.new_empty(len(given), 3, *self.box)
        self._run(kernels.read_back, displacement, given.contiguous(), fine)
        shape, coarse = tuple(self.volume.shape[2:]), tuple(displacement.shape[2:])
        if self.box == shape == coarse:
            return fine
        made = torch.empty_like(displacement)
        ratio = max(n / m for n, m in zip(shape, coarse, strict=True))
        launch(
            kernels.gather, made, math.prod(coarse), fine, made, *self._where(displacement),
            TAPS=1 if shape == coarse else math.ceil(2 * ratio),
        )  # fmt: skip
        return made

    def _where(self, displacement: torch.Tensor) -> tuple[int, ...]:
        return (*self.first, *self.box, *self.volume.shape[2:], *displacement.shape[2:])

    def _run(self, program: Any, displacement: torch.Tensor, *others: torch.Tensor) -> None:
        launch(
            program, self.volume, math.prod(self.box), self.volume, displacement, self.maps,
            *others, *self._where(displacement), CHANNELS=self.volume.shape[1],
        )  # fmt: skip


class Looked(torch.autograd.Function):
    """Volumes `(B, 1, *shape)` under affine maps `(B, 3, 4)`, for the voxels of a box.

    Maps are in units of `grid_sample`. There is no gradient by the volumes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        volume: torch.Tensor,
        first: Sequence[int],
        box: Sequence[int],
    ) -> torch.Tensor:
        maps, volume = maps.contiguous(), volume.contiguous()
        ctx.save_for_backward(maps, volume)
        ctx.where = (*first, *box, *volume.shape[2:])
        out = volume.new_empty(len(volume), 1, *box)
        launch(kernels.look, volume, math.prod(box), volume, maps, out, *ctx.where)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        maps, volume = ctx.saved_tensors
        given = gradients[0].contiguous()
        places = math.prod(given.shape[2:])
        parts = given.new_empty(len(given), programs(places), 3, 4)
        launch(kernels.look_back, given, places, volume, maps, given, parts, *ctx.where)
        return parts.sum(1), None, None, None


def traced(
    velocity: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    shape: Sequence[int],
    units: Sequence[float],
    steps: int,
) -> torch.Tensor:
    """Where the voxels of a grid come to under a map, the flow for unit time and another map.

    Args:
        velocity: `(B, 3, *coarse)` in mm.
        first: `(B, 3, 4)` in units of `grid_sample`.
        last: `(B, 3, 4)` from there to mm.
        shape: of the grid.
        units: of `grid_sample`, x first, in a mm.
        steps: of the integration.

    Returns:
        `(B, 3, *shape)` in mm.
    """
    out = velocity.new_empty(len(velocity), 3, *shape)
    launch(
        kernels.trace, velocity, math.prod(shape), velocity.contiguous(), first.contiguous(),
        last.contiguous(), out, *(unit / steps for unit in units), *shape, *velocity.shape[2:],
        STEPS=steps,
    )  # fmt: skip
    return out


def folded(points: torch.Tensor, spacing_mm: Sequence[float]) -> torch.Tensor:
    """`folded_voxels` of points `(B, 3, *shape)`."""
    shape = points.shape[2:]
    out = torch.empty(len(points), *shape, dtype=torch.int8, device=points.device)
    launch(
        kernels.folded, points, math.prod(shape), points.contiguous(), out, *map(float, spacing_mm),
        *shape,
    )  # fmt: skip
    return out.bool()
