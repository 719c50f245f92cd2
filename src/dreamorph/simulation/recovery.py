"""How well registration and prior recovered a truth that is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dreamorph.errors import ParameterError
from dreamorph.simulation.shapes import affine_fields
from dreamorph.simulation.truth import Truth
from dreamorph.spatial import SpatialTransform, points_like, sample


@dataclass(frozen=True)
class RegistrationError:
    """Distance between estimated and true points of each pair, in mm, over a region.

    Attributes:
        before_mean_mm, before_p95_mm: `(B,)` for the identity.
        after_mean_mm, after_p95_mm: `(B,)` for the estimated maps.
    """

    before_mean_mm: torch.Tensor
    before_p95_mm: torch.Tensor
    after_mean_mm: torch.Tensor
    after_p95_mm: torch.Tensor


@dataclass(frozen=True)
class ModeRecovery:
    """How much of the true variation a set of learned fields holds.

    All fields are compared without their mean over subjects and without their affine part, since
    the split of a map into affine, template and deformation is a convention.

    Attributes:
        n_modes: number of leading learned modes that count.
        explained: share of the true variance between subjects within the learned modes, 0 to 1.
        explained_at_best: the same for as many leading modes of the true fields themselves.
        explained_by_chance: the same for the learned modes mirrored along two axes, which are as
            smooth and as many but in the wrong place.
        subspace_overlap: mean squared cosine between true directions and learned modes, 0 to 1.
        field_correlation: correlation of learned and true fields, subject by subject.
        sd_ratio: standard deviation of the learned fields over that of the true ones.
        enlargement_correlation: correlation over subjects of the coefficients of the enlargement.
        enlargement_sd_ratio: their standard deviation over the true one.
    """

    n_modes: int
    explained: float
    explained_at_best: float
    explained_by_chance: float
    subspace_overlap: float
    field_correlation: float
    sd_ratio: float
    enlargement_correlation: float
    enlargement_sd_ratio: float


def registration_error_mm(
    truth: Truth,
    fixed: Sequence[str],
    moving: Sequence[str],
    transform: SpatialTransform,
    region: torch.Tensor | None = None,
) -> RegistrationError:
    """Judge estimated maps from fixed to moving volumes.

    Args:
        truth: the truth of the cohort that the pairs are from.
        fixed, moving: names of the cases of each pair.
        transform: the estimated maps, on a grid whose centre is that of both volumes.
        region: `(B, 1, *shape)` on that grid, true where points of the fixed volume count, such as
            its mask or its labels; None counts all.

    Raises:
        ParameterError: numbers of pairs differ or a region is empty.
    """
    if not len(fixed) == len(moving) == len(transform):
        raise ParameterError(
            f"expected one fixed and one moving case per map, got {len(fixed)}, {len(moving)} and "
            f"{len(transform)}"
        )
    here = points_like(transform.shape, transform.spacing_mm)
    there = truth.pair_points(fixed, moving, here)
    before = (there - here).norm(dim=1).flatten(1)
    after = (there - transform.to("cpu").points()).norm(dim=1).flatten(1)
    if region is None:
        inside = torch.ones_like(before, dtype=torch.bool)
    else:
        inside = (region[:, 0].cpu() > 0).flatten(1).expand(len(fixed), -1)
    if not bool(inside.any(dim=1).all()):
        raise ParameterError("region is empty for at least one pair: pass a mask that is not")
    return RegistrationError(*_summary(before, inside), *_summary(after, inside))


def mode_recovery(
    true_fields: torch.Tensor,
    learned_fields: torch.Tensor,
    true_directions: torch.Tensor,
    true_extent_mm: Sequence[float],
    learned_extent_mm: Sequence[float],
    weight: torch.Tensor | None = None,
) -> ModeRecovery:
    """Compare learned population fields with the true ones of the same subjects.

    Args:
        true_fields: `(N, 3, d, h, w)` in mm, such as `truth.velocities[truth.rows(cases)]`.
        learned_fields: `(N, 3, *any)` in mm, template to member, in the same order.
        true_directions: `(K, 3, d, h, w)`, such as `truth.directions`; the last one is the
            enlargement.
        true_extent_mm, learned_extent_mm: edges of the two grids, which share their centre.
        weight: `(d, h, w)` not negative, how much each point counts; None counts all that both
            grids cover.

    Raises:
        ParameterError: fewer than three subjects, or different numbers of them.
    """
    n = true_fields.shape[0]
    if n < 3 or learned_fields.shape[0] != n:
        raise ParameterError(
            f"expected true and learned fields of the same three or more subjects, got {n} and "
            f"{learned_fields.shape[0]}"
        )
    shape = tuple(true_fields.shape[2:])
    spacing = [e / m for e, m in zip(true_extent_mm, shape, strict=True)]
    points = points_like(shape, spacing)
    covered = _covered(points, learned_extent_mm)
    weight = covered if weight is None else covered * weight.double()
    learned = sample(
        learned_fields.cpu().float(), points.expand(n, *points.shape[1:]), learned_extent_mm
    )
    space = _Space(weight, affine_fields(shape, true_extent_mm))
    truth_rows = space.rows(true_fields.cpu(), centre=True)
    learned_rows = space.rows(learned, centre=True)
    directions = space.rows(true_directions.cpu(), centre=False)
    count = min(len(directions), n - 1)
    modes = _leading(learned_rows, count)
    mirrored = space.rows(space.fields(modes).flip(3, 4), centre=False)
    own = directions[-1] / directions[-1].norm()
    true_amount, learned_amount = truth_rows @ own, learned_rows @ own
    return ModeRecovery(
        n_modes=count,
        explained=_explained(truth_rows, modes),
        explained_at_best=_explained(truth_rows, _leading(truth_rows, count)),
        explained_by_chance=_explained(truth_rows, _leading(mirrored, count)),
        subspace_overlap=_overlap(directions, modes),
        field_correlation=_cosine(truth_rows.flatten(), learned_rows.flatten()),
        sd_ratio=_ratio(learned_rows, truth_rows),
        enlargement_correlation=_cosine(true_amount, learned_amount),
        enlargement_sd_ratio=_ratio(learned_amount, true_amount),
    )


class _Space:
    """Fields as rows of a matrix whose dot product is the weighted one, without affine parts."""

    def __init__(self, weight: torch.Tensor, affine: torch.Tensor) -> None:
        self.shape = weight.shape
        self.root = weight.sqrt().expand(3, *weight.shape).flatten()
        self.affine = torch.linalg.qr((affine.flatten(1).double() * self.root).T)[0].T

    def rows(self, fields: torch.Tensor, centre: bool) -> torch.Tensor:
        rows = fields.flatten(1).double() * self.root
        if centre:
            rows = rows - rows.mean(dim=0)
        return rows - (rows @ self.affine.T) @ self.affine

    def fields(self, rows: torch.Tensor) -> torch.Tensor:
        safe = torch.where(self.root > 0, self.root, torch.inf)
        return (rows / safe).reshape(-1, 3, *self.shape)


def _covered(points: torch.Tensor, extent_mm: Sequence[float]) -> torch.Tensor:
    half = torch.tensor(extent_mm).reshape(3, 1, 1, 1) / 2
    return (points[0].abs() <= half).all(dim=0).double()


def _leading(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The leading directions of rows, orthonormal `(at most count, P)`."""
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    kept = int((sizes[:count] > 1e-9 * sizes[0].clamp(min=1e-12)).sum())
    return directions[:kept]


def _explained(rows: torch.Tensor, modes: torch.Tensor) -> float:
    total = rows.square().sum().clamp(min=1e-12)
    return float((rows @ modes.T).square().sum() / total)


def _overlap(directions: torch.Tensor, modes: torch.Tensor) -> float:
    basis = _leading(directions, len(directions))
    return float((basis @ modes.T).square().sum() / len(basis))


def _cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    """Both are centred over subjects already, so this is their correlation."""
    return float(first @ second / (first.norm() * second.norm()).clamp(min=1e-12))


def _ratio(learned: torch.Tensor, true: torch.Tensor) -> float:
    return float(learned.norm() / true.norm().clamp(min=1e-12))


def _summary(distance: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 95th percentile of each row where inside."""
    chosen = [row[mask] for row, mask in zip(distance, inside, strict=True)]
    mean = torch.stack([row.mean() for row in chosen])
    # torch.quantile refuses large inputs; sorting does not
    high = torch.tensor([float(row.sort().values[int(0.95 * (len(row) - 1))]) for row in chosen])
    return mean, high
