"""Multi-atlas label fusion: register every labelled volume to the target and let them vote.

The plain opponent of a trained network: no training, and the same registration as the dreams. Votes
are weighted voxel by voxel with the local correlation between target and warped atlas
(Artaechevarria et al., IEEE TMI 2009; correlation as in Avants et al., 2008).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, field_validator

from dreamorph.config import Config
from dreamorph.errors import CohortError
from dreamorph.parallel import side_by_side
from dreamorph.registration import RegistrationConfig, VelocityConfig, register
from dreamorph.registration.batching import batch_size, in_batches
from dreamorph.spatial import box_mean
from dreamorph.spatial.transform import one_hot

#: Atlases registered at once, where they fit: rounding, and with it single voxels, differs with it.
TOGETHER = 8
#: Every atlas keeps this much of a vote, so that somebody votes where none correlates.
LEAST_WEIGHT = 1e-4
#: The deformable step, in so far as parameters and presets say nothing of it.
QUICK: dict[str, Any] = {"levels": (4, 2), "iterations": (40, 40), "factor": 4}
#: Local variance, relative to the volume's variance, under which a window counts as flat.
FLAT = 1e-3


class FusionConfig(Config):
    """Multi-atlas label fusion.

    Attributes:
        registration: of each atlas to the target; the default trades little accuracy for speed.
            What is given counts more than the default, which a named preset replaces.
        window: edge of the window of the local correlation, in voxels.
        power: exponent on the correlation; larger trusts the best atlas more.
        max_atlases: at most so many atlases, the first ones; None takes all.
    """

    registration: RegistrationConfig = RegistrationConfig(velocity=VelocityConfig(**QUICK))
    window: int = Field(default=5, ge=3)
    power: float = Field(default=2.0, ge=0)
    max_atlases: int | None = Field(default=None, ge=1)

    @field_validator("registration", mode="before")
    @classmethod
    def _quick_where_nothing_else_is_said(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "preset" in given:
            return given
        velocity = given.get("velocity", {})
        if not isinstance(velocity, Mapping):
            return given
        return {**given, "velocity": {**QUICK, **velocity}}


@dataclass(frozen=True)
class Atlases:
    """Labelled volumes that vote.

    Attributes:
        images: `(K, 1, *shape)` float.
        labels: `(K, 1, *shape)` integers.
        masks: `(K, 1, *shape)` bool, true where a volume has content.
        n_labels: labels without background.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    n_labels: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> "Atlases":
        """Some of them."""
        return Atlases(self.images[part], self.labels[part], self.masks[part], self.n_labels)


def fuse(
    images: torch.Tensor,
    masks: torch.Tensor,
    atlases: Atlases,
    spacing_mm: Sequence[float],
    config: FusionConfig | None = None,
) -> Iterator[torch.Tensor]:
    """Segment volumes by the votes of atlases, one volume at a time.

    A volume's result does not depend on the others, so an interrupted run continues with those that
    are left.

    Args:
        images: targets `(N, 1, *shape)` on the atlases' grid.
        masks: `(N, 1, *shape)` bool; outside them the background is certain.
        atlases: the voters.
        spacing_mm: voxel size.
        config: registration and weights.

    Yields:
        Probabilities `(1, n_labels + 1, *shape)` float32 on the CPU, background first.

    Raises:
        CohortError: there is no atlas.
    """
    config = config or FusionConfig()
    atlases = atlases[: config.max_atlases]
    if len(atlases) == 0:
        raise CohortError("no atlas to vote: label at least one training case")

    # Never targets together: rounding differs with the batch, and so would a resumed run's labels.
    def work(row: int) -> torch.Tensor:
        part = slice(row, row + 1)
        return _fuse_one(images[part], masks[part], atlases, spacing_mm, config)

    yield from side_by_side(work, range(len(images)))


def _fuse_one(
    image: torch.Tensor,
    mask: torch.Tensor,
    atlases: Atlases,
    spacing_mm: Sequence[float],
    config: FusionConfig,
) -> torch.Tensor:
    """Register the atlases to one target, a few at a time, and let them vote."""
    votes = image.new_zeros((atlases.n_labels, *image.shape[2:]), dtype=torch.float32)
    weights = torch.zeros_like(votes[:1])

    def work(part: slice) -> None:
        # one by one, so that the sum does not depend on how many fit
        for vote, weight in zip(
            *_votes(image, mask, atlases[part], spacing_mm, config), strict=True
        ):
            votes.add_(vote)
            weights.add_(weight)

    size = min(TOGETHER, batch_size(image.numel(), image.device, n_labels=atlases.n_labels))
    in_batches(len(atlases), size, work)
    shares = (votes / weights * mask[0].to(votes.dtype))[None]
    return torch.cat([1 - shares.sum(dim=1, keepdim=True), shares], dim=1).clamp(0, 1).cpu()


def _votes(
    image: torch.Tensor,
    mask: torch.Tensor,
    atlases: Atlases,
    spacing_mm: Sequence[float],
    config: FusionConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted votes of the atlases, `(K, L, *shape)`, and the weights, `(K, 1, *shape)`."""
    fixed, fixed_mask = (v.repeat_interleave(len(atlases), dim=0) for v in (image, mask))
    moving, moving_mask, labels = atlases.images, atlases.masks, atlases.labels
    result = register(
        fixed.float(),
        moving.float(),
        config.registration,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        spacing=spacing_mm,
    )
    channels = [moving.float(), moving_mask.float(), one_hot(labels, atlases.n_labels)[:, 1:]]
    warped = result.transform.warp(torch.cat(channels, dim=1), padding="zeros")
    inside = fixed_mask.float()
    weight = local_correlation(fixed.float(), warped[:, :1], inside * warped[:, 1:2], config.window)
    weight = (weight.clamp(min=0) ** config.power + LEAST_WEIGHT) * warped[:, 1:2].clamp(min=1e-6)
    return warped[:, 2:] * weight, weight


def local_correlation(
    fixed: torch.Tensor, moved: torch.Tensor, inside: torch.Tensor, window: int
) -> torch.Tensor:
    """Signed correlation in the window around each voxel, from the voxels inside only.

    Args:
        fixed, moved: `(B, 1, *shape)`.
        inside: `(B, 1, *shape)` weights in 0..1.
        window: edge in voxels, odd.

    Returns:
        `(B, 1, *shape)` in -1..1; 0 where a window is flat or empty.
    """
    share = box_mean(inside, window)
    safe = share.clamp(min=1e-6)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return box_mean(values * inside, window) / safe

    mean_fixed, mean_moved = mean(fixed), mean(moved)
    covariance = mean(fixed * moved) - mean_fixed * mean_moved
    variance_fixed = (mean(fixed * fixed) - mean_fixed**2).clamp(min=0)
    variance_moved = (mean(moved * moved) - mean_moved**2).clamp(min=0)
    floor_fixed, floor_moved = (FLAT * _variance(v, inside) for v in (fixed, moved))
    norm = torch.sqrt((variance_fixed + floor_fixed) * (variance_moved + floor_moved))
    return covariance / norm * (share > 1e-3)


def _variance(volume: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Variance within the weights, per volume, never quite zero."""
    axes = tuple(range(1, volume.dim()))
    count = inside.sum(axes, keepdim=True).clamp(min=1e-6)
    mean = (volume * inside).sum(axes, keepdim=True) / count
    return ((volume - mean) ** 2 * inside).sum(axes, keepdim=True) / count + 1e-12
