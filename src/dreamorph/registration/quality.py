"""How good a registered pair is, and whether to trust it."""

from dataclasses import asdict, dataclass

import torch

from dreamorph.registration.similarity import LocalCorrelation
from dreamorph.spatial.grid import points_like
from dreamorph.spatial.transform import SpatialTransform


@dataclass(frozen=True)
class PairQuality:
    """One registered pair.

    Attributes:
        similarity: local correlation after the map, -1 to 1.
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
    fixed_labels: torch.Tensor | None = None,
    moving_labels: torch.Tensor | None = None,
    window: int = 5,
) -> list[PairQuality]:
    """Quality of a batch of maps; volumes and labels are `(B, 1, *shape)`."""
    moved = transform.warp(moving)
    similarity = LocalCorrelation.prepare(fixed, fixed_mask, window)(moved)
    determinants = transform.jacobian_determinant().flatten(1)
    logs = determinants.clamp(min=1e-6).log()
    folded = transform.folded().flatten(1).sum(1)
    error = _inverse_error(transform)
    overlap = torch.full((len(transform),), float("nan"))
    if fixed_labels is not None and moving_labels is not None:
        n_labels = int(max(fixed_labels.max(), moving_labels.max()))
        overlap = hard_dice(fixed_labels, transform.warp_labels(moving_labels, n_labels))
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


def hard_dice(fixed: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Mean Dice `(B,)` over the labels present in either of two label maps `(B, 1, *shape)`."""
    scores = []
    for a, b in zip(fixed, moved, strict=True):
        values = torch.unique(torch.cat([a.flatten(), b.flatten()]))
        parts = [
            2.0 * float(((a == v) & (b == v)).sum()) / float((a == v).sum() + (b == v).sum())
            for v in values.tolist()
            if v != 0
        ]
        scores.append(sum(parts) / len(parts) if parts else float("nan"))
    return torch.tensor(scores)


def _inverse_error(transform: SpatialTransform) -> torch.Tensor:
    grid = points_like(transform.shape, transform.spacing_mm, transform.pre.device)
    back = transform.inverse().map(transform.map(grid))
    return (back - grid).norm(dim=1).flatten(1).mean(1)
