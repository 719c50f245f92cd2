"""One record for every map between grids: registration, dream and augmentation alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from dreamorph.spatial.affine import affine_points, apply_affine, identity_affine
from dreamorph.spatial.grid import (
    Padding,
    affine_maps,
    extent,
    points_like,
    resample,
    sample,
)
from dreamorph.spatial.jacobian import corner_determinants, folded_voxels
from dreamorph.spatial.on_gpu import fused
from dreamorph.spatial.velocity import FLOW_STEPS, exp_velocity, flow

#: Squarings of `SpatialTransform.quick_points`.
QUICK_STEPS = 2
#: As many labels as one byte tells apart: `argmax_labels` gives bytes.
MOST_LABELS = 256
#: Labels may be off a whole number by this much, as rounding in a file leaves them.
OFF_WHOLE = 1e-3
#: Types for which torch does not even find the least value, and those that hold the same numbers.
SIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
#: Labels below this number are their own ranks: gaps cost less than a search for them.
FEW_LABELS = 16


@dataclass(frozen=True)
class SpatialTransform:
    """A batch of maps `x -> post . exp(velocity)(pre . x)` from an output grid to an input grid.

    Both grids have the same shape and spacing. Warping pulls back: the output at x is the input at
    the mapped point, interpolated once for the whole chain.

    Attributes:
        pre: `(B, n, n)` float64 affine applied first, in grid millimetres (n = ndim + 1).
        velocity: `(B, ndim, *coarse)` in mm on any grid of the same extent, or None.
        post: `(B, n, n)` float64 affine applied last.
        shape: shape of the grid.
        spacing_mm: its voxel size.
    """

    pre: torch.Tensor
    velocity: torch.Tensor | None
    post: torch.Tensor
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    @classmethod
    def identity(
        cls,
        batch: int,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        device: torch.device | str = "cpu",
    ) -> "SpatialTransform":
        """`batch` maps that move nothing."""
        eye = identity_affine(batch, len(shape), device)
        return cls(eye, None, eye, tuple(shape), tuple(spacing_mm))

    def __len__(self) -> int:
        return self.pre.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | torch.Tensor) -> "SpatialTransform":
        """The maps at a slice or list of positions."""
        velocity = None if self.velocity is None else self.velocity[index]
        return replace(self, pre=self.pre[index], velocity=velocity, post=self.post[index])

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Edge lengths of the grid."""
        return extent(self.shape, self.spacing_mm)

    def to(self, device: torch.device | str) -> "SpatialTransform":
        """The same maps on another device."""
        velocity = None if self.velocity is None else self.velocity.to(device)
        return replace(self, pre=self.pre.to(device), velocity=velocity, post=self.post.to(device))

    def before(self, affine: torch.Tensor) -> "SpatialTransform":
        """The chain with `affine` `(B, n, n)` applied to the output point first."""
        return replace(self, pre=self.pre @ affine.to(self.pre))

    def inverse(self) -> "SpatialTransform":
        """Maps from the input grid back to the output grid."""
        velocity = None if self.velocity is None else -self.velocity
        return replace(
            self,
            pre=torch.linalg.inv(self.post),
            velocity=velocity,
            post=torch.linalg.inv(self.pre),
        )

    def points(self) -> torch.Tensor:
        """Where each output voxel's centre goes, `(B, ndim, *shape)` in grid millimetres."""
        device, velocity = self.pre.device, self.velocity
        ends = (self.pre, self.post)
        alike = velocity is not None and all(
            len(end) == len(velocity) and not end.requires_grad for end in ends
        )
        if velocity is not None and alike and fused(velocity):
            from dreamorph.spatial.fused import traced

            edges = self.extent_mm
            first, last = affine_maps(self.pre, edges), affine_maps(self.post, edges, to_mm=True)
            units = [2 / edge for edge in reversed(edges)]
            return traced(velocity, first, last, self.shape, units, FLOW_STEPS)
        grid = points_like(self.shape, self.spacing_mm, device)
        return self.map(grid)

    def quick_points(self) -> torch.Tensor:
        """As `points`, many times as fast, for samples that nobody keeps.

        The exponential is computed by two squarings on the grid of the velocity, looked up at the
        voxels of that grid and brought to the fine one by linear interpolation. On average within
        a tenth of a voxel of `points` for displacements as smooth as registrations and dreams
        have, half a voxel in places; under rougher warps within an eighth, and a voxel in places.
        """
        chain, displacement = self.quick_parts()
        affine = affine_points(chain, self.shape, self.spacing_mm)
        return affine if self.velocity is None else affine + resample(displacement, self.shape)

    def quick_parts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What `quick_points` adds up: an affine `(B, n, n)` and, on a coarse grid, the rest.

        The rest is `(B, ndim, *coarse)` in mm; zero on one voxel where there is no velocity.
        """
        chain, ndim = self.post @ self.pre, len(self.shape)
        if self.velocity is None:
            return chain, torch.zeros(len(self), ndim, *[1] * ndim, device=chain.device)
        coarse = self.velocity.shape[2:]
        spacing = [e / n for e, n in zip(self.extent_mm, coarse, strict=True)]
        displacement = exp_velocity(self.velocity, self.extent_mm, QUICK_STEPS)
        moved = sample(displacement, affine_points(self.pre, coarse, spacing), self.extent_mm)
        turned = self.post[:, :ndim, :ndim].to(moved) @ moved.flatten(2)
        return chain, turned.reshape(moved.shape)

    def map(self, points: torch.Tensor) -> torch.Tensor:
        """Map points `(B or 1, ndim, *any)` in grid millimetres."""
        moved = apply_affine(self.pre, points)
        if self.velocity is not None:
            moved = flow(self.velocity, moved, self.extent_mm)
        return apply_affine(self.post, moved)

    def displacement(self) -> torch.Tensor:
        """Mapped point minus output point, `(B, ndim, *shape)` in mm."""
        return self.points() - points_like(self.shape, self.spacing_mm, self.pre.device)

    def warp(self, volume: torch.Tensor, padding: Padding = "border") -> torch.Tensor:
        """Pull `(B, C, *shape)` from the input grid to the output grid, linearly."""
        return sample(volume, self.points(), self.extent_mm, padding)

    def warp_labels(self, labels: torch.Tensor, n_labels: int) -> torch.Tensor:
        """Pull integer labels `(B, 1, *shape)`: one-hot, linear, argmax.

        `n_labels` counts the labels without background 0.
        """
        return argmax_labels(self.warp(one_hot(labels, n_labels)))

    def warp_with_labels(
        self,
        volume: torch.Tensor,
        labels: torch.Tensor,
        n_labels: int,
        points: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pull a volume `(B, C, *)` and its labels `(B, 1, *)` through one interpolation.

        `points` are those of this transform where they are known already: most of the work.
        """
        channels = volume.shape[1]
        both = torch.cat([volume, one_hot(labels, n_labels).to(volume.dtype)], dim=1)
        both = sample(both, self.points() if points is None else points, self.extent_mm)
        return both[:, :channels], argmax_labels(both[:, channels:])

    def jacobian_determinant(self) -> torch.Tensor:
        """One-sided determinants at all corners of all cells, `(B, 2**ndim, *(shape - 1))`."""
        return corner_determinants(self.points(), self.spacing_mm)

    def folded(self) -> torch.Tensor:
        """Voxels where the map folds, bool `(B, *shape)`."""
        return folded_voxels(self.points(), self.spacing_mm)


def concatenate(transforms: Sequence[SpatialTransform]) -> SpatialTransform:
    """Join batches of maps on one grid; all or none of them carry a velocity."""
    first = transforms[0]
    velocities = [t.velocity for t in transforms if t.velocity is not None]
    if velocities and len(velocities) != len(transforms):
        raise ValueError("cannot join transforms with and without a velocity")
    return replace(
        first,
        pre=torch.cat([t.pre for t in transforms]),
        velocity=torch.cat(velocities) if velocities else None,
        post=torch.cat([t.post for t in transforms]),
    )


def rank_labels(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole numbers that occur, ascending, and which of them each voxel has.

    Labels of any number then take as many channels as there are labels. Where all are from 0 to 15,
    those in between that do not occur are listed as well.

    Args:
        labels: as for `whole_labels`, at most 256 different ones.

    Returns:
        `(L,)` in the type of `whole_labels`, and whole ranks.

    Raises:
        ValueError: they are not whole, or there are more than one byte can tell apart.
    """
    labels = whole_labels(labels)
    if (
        not labels.is_floating_point()
        and labels.numel()
        and int(labels.min()) >= 0
        and int(labels.max()) < FEW_LABELS
    ):
        return torch.arange(int(labels.max()) + 1).to(labels), labels
    values, ranks = torch.unique(labels, return_inverse=True)
    if len(values) > MOST_LABELS:
        raise ValueError(
            f"expected at most {MOST_LABELS} labels, got {len(values)} values: is it an image?"
        )
    return values, ranks


def whole_labels(labels: torch.Tensor) -> torch.Tensor:
    """Labels of any shape and type in a type that can be computed with.

    Truths become uint8, unsigned integers wider than that signed ones, floats float32 at least;
    these are freed of rounding errors up to .001.

    Raises:
        ValueError: some are not whole numbers.
    """
    if labels.dtype is torch.bool:
        return labels.to(torch.uint8)
    if not labels.is_floating_point():
        return labels.to(SIGNED.get(labels.dtype, labels.dtype))
    labels = labels.to(torch.promote_types(labels.dtype, torch.float32))
    whole = labels.round()
    # what is not finite is not within any distance of itself
    if not bool(((labels - whole).abs() <= OFF_WHOLE).all()):
        raise ValueError(
            "expected labels that are whole numbers, got values between them or not finite: is it"
            " an image?"
        )
    return whole


def one_hot(labels: torch.Tensor, n_labels: int) -> torch.Tensor:
    """`(B, 1, *shape)` integers to `(B, n_labels + 1, *shape)` float32, background first.

    Raises:
        ValueError: there is not one channel of labels: each would be held against another value.
    """
    if labels.shape[1] != 1:
        raise ValueError(f"expected labels (B, 1, *shape), got {tuple(labels.shape)}")
    labels = labels.to(torch.uint8) if labels.dtype is torch.bool else labels
    values = torch.arange(n_labels + 1, dtype=labels.dtype, device=labels.device)
    return (labels == values.reshape(1, -1, *[1] * (labels.dim() - 2))).float()


def argmax_labels(probabilities: torch.Tensor) -> torch.Tensor:
    """`(B, n + 1, *shape)` to the most probable label, uint8 `(B, 1, *shape)`."""
    # On a CPU the index that max gives is found eight times faster than argmax finds it.
    return probabilities.max(dim=1, keepdim=True).indices.to(torch.uint8)
