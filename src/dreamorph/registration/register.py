"""The public entry point: register a batch of pairs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from dreamorph.errors import RegistrationError
from dreamorph.registration.affine import as_given, register_affine
from dreamorph.registration.batching import batch_size, in_batches
from dreamorph.registration.config import RegistrationConfig
from dreamorph.registration.folds import without_folds
from dreamorph.registration.pyramid import Pairs, comparable
from dreamorph.registration.svf import register_velocity
from dreamorph.spatial.affine import identity_affine
from dreamorph.spatial.grid import extent
from dreamorph.spatial.transform import (
    SpatialTransform,
    concatenate,
    one_hot,
    rank_labels,
    whole_labels,
)

#: Values beyond it are fill, not measured: the squares of a volume's values would not fit in a
#: float32, or all else be flat beside them.
LARGEST_VALUE = 1e15


@dataclass(frozen=True)
class RegistrationResult:
    """Maps from the fixed grid to the moving grid, `x -> affine(exp(velocity)(x))`.

    The maps of `inverse()` go the other way round, `x -> exp(velocity)(affine(x))`.

    Attributes:
        transform: the maps, in grid millimetres (see `dreamorph.spatial`).
        failures: one text a pair: why its affine step failed from every start, or that, without
            such a step, its contents do not meet; else empty. The pair keeps the given alignment,
            or, where its volumes do not look alike under any map, the best one found.
    """

    transform: SpatialTransform
    failures: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[bool, ...]:
        """Whether the affine step of each pair failed."""
        return tuple(bool(failure) for failure in self.failures)

    @property
    def velocity(self) -> torch.Tensor:
        """`(B, ndim, *coarse)` in mm, on a coarser grid of the volumes' extent."""
        if self.transform.velocity is None:
            raise RegistrationError("an affine registration has no velocity; set config.velocity")
        return self.transform.velocity

    @property
    def affine(self) -> torch.Tensor:
        """`(B, n, n)` float64, from fixed to moving points in grid millimetres."""
        return self.transform.pre if self._inverted else self.transform.post

    @property
    def _inverted(self) -> bool:
        eye = torch.eye(self.transform.pre.shape[-1], dtype=torch.float64)
        return not bool((self.transform.pre.cpu() == eye).all())

    def warp(self, volume: torch.Tensor, labels: bool = False) -> torch.Tensor:
        """Bring a volume `(B, C, *shape)` from the moving grid to the fixed grid.

        One map serves any number of volumes. Floats keep their type, integers become float32.
        With `labels=True` the volume holds whole numbers `(B, 1, *shape)`, which keep theirs; each
        is interpolated as a probability and the most probable one is kept.

        Raises:
            RegistrationError: there are more than 256 of them, labels are not whole or have more
                than one channel, or volumes and maps do not pair up, or are of different grids.
        """
        if volume.shape[2:] != self.transform.shape:
            raise RegistrationError(
                f"expected volumes (B, C, {', '.join(map(str, self.transform.shape))}) on the grid"
                f" of the registration, got {tuple(volume.shape)}"
            )
        if len(self.transform) not in (1, len(volume)):
            raise RegistrationError(
                f"expected {len(self.transform)} volumes, one for each map, got {len(volume)}"
            )
        if not labels:
            return self._in_batches(
                len(volume), volume.shape[1], lambda part: self._of(part).warp(volume[part])
            )
        if volume.shape[1] != 1:
            raise RegistrationError(
                f"expected labels (B, 1, *shape), numbers in one channel, got {tuple(volume.shape)}"
            )
        values, ranks = _values(volume)
        moved = self._in_batches(
            len(volume),
            len(values),
            lambda part: self._of(part).warp_labels(ranks[part], len(values) - 1),
        )
        return values[moved.long()].to(volume.dtype)

    def inverse(self) -> "RegistrationResult":
        """Maps from the moving grid to the fixed grid."""
        return RegistrationResult(self.transform.inverse(), self.failures)

    def jacobian_determinant(self) -> torch.Tensor:
        """One-sided determinants at every corner of every cell, `(B, 2**ndim, *(shape - 1))`."""
        return self._in_batches(
            len(self.transform), 0, lambda part: self.transform[part].jacobian_determinant()
        )

    def _of(self, part: slice) -> SpatialTransform:
        """The maps of some volumes."""
        return self.transform if len(self.transform) == 1 else self.transform[part]

    def _in_batches(
        self, count: int, channels: int, work: Callable[[slice], torch.Tensor]
    ) -> torch.Tensor:
        """As many at once as a registration takes: all maps of a cohort may not fit in memory."""
        voxels, device = math.prod(self.transform.shape), self.transform.pre.device
        size = batch_size(voxels, device, n_labels=channels)
        return torch.cat(in_batches(count, size, work))


def register(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    config: RegistrationConfig | None = None,
    fixed_labels: torch.Tensor | None = None,
    moving_labels: torch.Tensor | None = None,
    fixed_mask: torch.Tensor | None = None,
    moving_mask: torch.Tensor | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> RegistrationResult:
    """Register `moving` to `fixed`, pair by pair, in batches.

    Args:
        fixed, moving: float `(B, 1, D, H, W)` or `(B, 1, H, W)` on grids of one shape and spacing.
        config: how; the defaults are the preset `default`.
        fixed_labels, moving_labels: integers `(B, 1, *shape)`, both or neither; guide the pair.
        fixed_mask, moving_mask: `(B, 1, *shape)`, true, or more than a half, where a volume has
            content; None is all.
            With air or padding around the content, give them: the affine step goes by its width.
        spacing: voxel size in mm, in the order of the array's axes; of 2D images the first two.

    Returns:
        Maps from the fixed grid to the moving grid, on the device of `fixed`.

    Raises:
        RegistrationError: shapes differ, there is no pair, values are not finite or too large to
            compare, a mask is empty, one of the two volumes alone has labels, labels are not whole
            numbers, or the spacing is none.
    """
    config = config or RegistrationConfig()
    _check(fixed, moving, fixed_labels, moving_labels, fixed_mask, moving_mask)
    spacing = _spacing(spacing, fixed.dim() - 2)
    device = computing_device(config, fixed)
    everything = torch.ones_like(fixed)
    fixed_mask = everything if fixed_mask is None else fixed_mask
    moving_mask = everything if moving_mask is None else moving_mask
    n_labels = 0
    if fixed_labels is not None and moving_labels is not None:
        given = [_whole(labels) for labels in (fixed_labels, moving_labels)]
        both, n_labels = _numbered(torch.stack(given))
        fixed_labels, moving_labels = both

    def work(part: slice) -> RegistrationResult:
        def here(volume: torch.Tensor) -> torch.Tensor:
            return volume[part].to(device).float()

        masks = (here(fixed_mask) > 0.5).float(), (here(moving_mask) > 0.5).float()
        pairs = Pairs(
            _comparable(here(fixed), masks[0], "fixed"),
            _comparable(here(moving), masks[1], "moving"),
            *masks,
            _probabilities(fixed_labels, part, n_labels, device),
            _probabilities(moving_labels, part, n_labels, device),
            extent(fixed.shape[2:], spacing),
        )
        return _register_batch(pairs, config)

    size = config.batch_size or batch_size(fixed[0].numel(), device, config.similarity, n_labels)
    with torch.inference_mode(False), torch.enable_grad():  # wherever it is called: it descends
        parts = in_batches(fixed.shape[0], size, work)
    transform = concatenate([part.transform for part in parts]).to(fixed.device)
    return RegistrationResult(transform, tuple(text for part in parts for text in part.failures))


def _comparable(volume: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """A volume as it is compared, if its numbers within the mask can be scaled."""
    if float(torch.where(mask > 0, volume, 0).abs().max()) > LARGEST_VALUE:
        raise RegistrationError(
            f"values of the {name} volumes are too large to compare: are there fill values, such as"
            " 1e20 or -3.4e38, where nothing was measured? Replace them"
        )
    return comparable(volume, mask)


def _register_batch(pairs: Pairs, config: RegistrationConfig) -> RegistrationResult:
    eye = identity_affine(len(pairs), len(pairs.shape), pairs.fixed.device)
    found = as_given(pairs) if config.affine is None else register_affine(pairs, config)
    velocity = None
    if config.velocity is not None:
        velocity = register_velocity(pairs, found.matrices, config)
    transform = SpatialTransform(eye, velocity, found.matrices, pairs.shape, pairs.spacing_mm)
    return RegistrationResult(without_folds(transform), found.failures)


def _numbered(labels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Labels numbered from one without gaps, background staying 0, and how many there are."""
    values, ranks = _values(labels)
    count = (values != 0).long()
    return (count.cumsum(0) * count)[ranks.long()], int(count.sum())


def _values(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `rank_labels`; raises RegistrationError where they are no labels."""
    try:
        return rank_labels(labels)
    except ValueError as error:
        raise RegistrationError(str(error)) from error


def _whole(labels: torch.Tensor) -> torch.Tensor:
    """As `whole_labels`; raises RegistrationError where they are no labels."""
    try:
        return whole_labels(labels)
    except ValueError as error:
        raise RegistrationError(str(error)) from error


def _probabilities(
    labels: torch.Tensor | None, part: slice, n_labels: int, device: torch.device
) -> torch.Tensor | None:
    if labels is None or n_labels == 0:
        return None
    return one_hot(labels[part].to(device), n_labels)[:, 1:]


def computing_device(config: RegistrationConfig, volume: torch.Tensor) -> torch.device:
    """Where `register` computes: `auto` takes a GPU where there is one."""
    if config.device == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else volume.device
    if config.device == "cuda" and not torch.cuda.is_available():
        raise RegistrationError(
            "registration.device is 'cuda' but there is no GPU: use auto or cpu"
        )
    return torch.device(config.device)


def _spacing(given: Sequence[float], ndim: int) -> tuple[float, ...]:
    try:
        spacing = tuple(float(s) for s in given)
    except TypeError as error:  # one number
        raise RegistrationError(
            f"spacing must be {ndim} numbers of millimetres, one for each axis, got {given!r}"
        ) from error
    if len(spacing) < ndim or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise RegistrationError(
            f"spacing must be {ndim} positive numbers of millimetres, one for each axis, got"
            f" {spacing}"
        )
    return spacing[:ndim]


def _check(fixed: torch.Tensor, moving: torch.Tensor, *others: torch.Tensor | None) -> None:
    if fixed.dim() not in (4, 5) or fixed.shape[1] != 1:
        raise RegistrationError(
            f"fixed must be (B, 1, H, W) or (B, 1, D, H, W), got {tuple(fixed.shape)}"
        )
    if not fixed.numel():
        raise RegistrationError(f"expected at least one pair of volumes, got {tuple(fixed.shape)}")
    for name, other in zip(
        ("moving", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask"),
        (moving, *others),
        strict=True,
    ):
        if other is not None and other.shape != fixed.shape:
            raise RegistrationError(
                f"{name} has shape {tuple(other.shape)}, expected that of fixed, "
                f"{tuple(fixed.shape)}: bring both to one grid first"
            )
    if (others[0] is None) != (others[1] is None):
        raise RegistrationError(
            "got labels of one volume only: give fixed_labels and moving_labels, or neither"
        )
    if not bool(torch.isfinite(fixed).all() and torch.isfinite(moving).all()):
        raise RegistrationError(
            "fixed or moving holds values that are not finite: replace them, also outside the masks"
        )
    for name, mask in zip(("fixed_mask", "moving_mask"), others[2:], strict=True):
        if mask is not None and not bool((mask > 0.5).flatten(1).any(dim=1).all()):
            raise RegistrationError(f"{name} is empty for at least one pair")
