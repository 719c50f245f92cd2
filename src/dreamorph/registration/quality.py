"""How good a registered pair is, and whether to trust it."""

from dataclasses import asdict, dataclass

import torch

from dreamorph.registration.config import Similarity
from dreamorph.registration.pyramid import comparable
from dreamorph.registration.similarity import prepare
from dreamorph.spatial.grid import points_like, sample
from dreamorph.spatial.jacobian import corner_determinants, voxels_at_corners
from dreamorph.spatial.transform import SpatialTransform, argmax_labels, one_hot


@dataclass(frozen=True)
class PairQuality:
    """One registered pair.

    Attributes:
        similarity: agreement after the map, larger is better; local correlation is -1 to 1.
        dice: mean Dice over labels after the map; NaN where not both are labelled.
        folded: voxels with a determinant that is not positive.
        log_jacobian_min, log_jacobian_max: range of the logarithm of the positive determinants.
        inverse_error_mm: mean distance of a point from itself after the map and back.
    """

    similarity: float
    dice: float
    folded: int
    log_jacobian_min: float
    log_jacobian_max: float
    inverse_error_mm: float

    def as_dict(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def measure(
    transform: SpatialTransform,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    fixed_mask: torch.Tensor,
    moving_mask: torch.Tensor,
    fixed_labels: torch.Tensor | None = None,
    moving_labels: torch.Tensor | None = None,
    kind: Similarity = "lncc",
    window: int = 5,
) -> list[PairQuality]:
    """Quality of a batch of maps; volumes, masks and labels are `(B, 1, *shape)`.

    Agreement is of volumes with unit variance within their masks, over all of the fixed mask:
    beyond its own mask a moving volume is continued.
    """
    points = transform.points()
    moved = sample(comparable(moving, moving_mask), points, transform.extent_mm)
    similarity = prepare(kind, comparable(fixed, fixed_mask), fixed_mask, window)(moved)
    determinants = corner_determinants(points, transform.spacing_mm)
    logs = determinants.flatten(1).clamp(min=1e-6).log()
    folded = voxels_at_corners(~(determinants > 0)).flatten(1).sum(1)
    grid = points_like(transform.shape, transform.spacing_mm, transform.pre.device)
    error = (transform.inverse().map(points) - grid).norm(dim=1).flatten(1).mean(1)
    overlap = torch.full((len(transform),), float("nan"))
    if fixed_labels is not None and moving_labels is not None:
        n_labels = int(max(fixed_labels.max(), moving_labels.max()))
        hot = sample(one_hot(moving_labels, n_labels), points, transform.extent_mm)
        overlap = hard_dice(fixed_labels, argmax_labels(hot), moving_labels)
    return [
        PairQuality(
            float(similarity[k]),
            float(overlap[k]),
            int(folded[k]),
            float(logs[k].min()),
            float(logs[k].max()),
            float(error[k]),
        )
        for k in range(len(transform))
    ]


def hard_dice(
    fixed: torch.Tensor, moved: torch.Tensor, moving: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean Dice `(B,)` over the labels that both volumes have; NaN where they share none.

    A label that one patient lacks says nothing about a map. One that the map moved out of sight
    counts as 0.

    Args:
        fixed, moved: label maps `(B, 1, *shape)`.
        moving: the second one before it was moved, on its own grid; None: as `moved`.
    """
    scores = []
    for a, b, own in zip(fixed, moved, moved if moving is None else moving, strict=True):
        shared = set(torch.unique(a).tolist()) & set(torch.unique(own).tolist()) - {0}
        parts = [
            2.0 * float(((a == v) & (b == v)).sum()) / float((a == v).sum() + (b == v).sum())
            for v in sorted(shared)
        ]
        scores.append(sum(parts) / len(parts) if parts else float("nan"))
    return torch.tensor(scores)
