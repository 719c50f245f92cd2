"""From maps between pairs to one map per volume, by least squares over the graph of pairs.

A pair (i, j) tells only the difference between two volumes. Taken as samples of the population,
pairwise fields would carry twice its covariance and the error of every registration; solving
`v_ij ~ w_j - w_i` for all volumes at once halves the first and averages the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dreamorph.errors import PriorError
from dreamorph.prior.basis import CosineBasis, sobolev_spectrum
from dreamorph.spatial.affine import affine_exp, affine_log_where, identity_affine

#: Weight of a failed pair among good ones.
FAILED_WEIGHT = 1e-6
#: By what share of the largest disagreement of a pair the others are measured at least.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Population:
    """One field per volume, and what the pairs say about their errors.

    Attributes:
        members: `(N, ...)` float64, from the common space to each volume, fields in mm or their
            coefficients, as the pairs were given; their mean is zero.
        residuals: `(P, ...)` float64, what no choice of members explains: registration error.
        gains: `(N,)`, variance of a member per variance of an independent pair error.
    """

    members: torch.Tensor
    residuals: torch.Tensor
    gains: torch.Tensor

    def without_noise(self, basis: CosineBasis) -> torch.Tensor:
        """Fields `(N, ndim, *coarse)`, each cosine shrunk by its share of registration error.

        For members that are coefficients in `basis`. Wiener's filter: the power of the error
        follows from how much the pairs contradict each other, fitted by a smooth spectrum; errors
        that are the same in all pairs go unseen.
        """
        count, pairs = len(self.members), len(self.residuals)
        frequency = basis.frequency()
        freedom = pairs - count + 1
        if freedom <= 0:
            return basis.synthesise(self.members)
        seen = sobolev_spectrum(frequency, self.members.square().sum(0) / (count - 1))
        left = self.residuals.square().sum(0) / freedom
        error = sobolev_spectrum(frequency, left) if float(left.sum()) > 0 else left
        true = (seen - self.gains.mean() * error).clamp(min=0)
        keep = true / (true + self.gains[:, None] * error).clamp(min=1e-30)
        return basis.synthesise(self.members * keep)


def solve_population(
    pairs: torch.Tensor, fixed: Sequence[int], moving: Sequence[int], n_members: int
) -> Population:
    """Solve `v_ij ~ w_j - w_i` for members w of mean zero.

    Velocities of all pairs must live in one space: pull every volume through its map from
    `population_affines` and register the pairs there, with `RegistrationConfig(affine=None)`.
    Those of pairs that were each aligned for themselves cannot be compared and give a worse prior.

    Args:
        pairs: `(P, ...)`, velocities of the maps from fixed to moving points of each pair, or their
            coefficients in a basis, which take a fraction of the memory.
        fixed, moving: the members of each pair.
        n_members: number of volumes; each must be reached from every other through pairs.

    Raises:
        PriorError: the pairs leave some member unconnected.
    """
    solver = _solver(fixed, moving, n_members, torch.ones(len(fixed), dtype=torch.float64))
    exact = pairs.double().cpu()
    members = torch.einsum("np,p...->n...", solver, exact)
    residuals = exact - (members[list(moving)] - members[list(fixed)])
    return Population(members, residuals, solver.square().sum(1))


def connected_groups(
    fixed: Sequence[int], moving: Sequence[int], n_members: int
) -> list[list[int]]:
    """Members that pairs join, directly or by way of others; each group and its members ascend."""
    root = list(range(n_members))

    def find(member: int) -> int:
        while root[member] != member:
            member = root[member]
        return member

    for i, j in zip(fixed, moving, strict=True):
        first, second = sorted((find(int(i)), find(int(j))))
        root[second] = first
    groups: dict[int, list[int]] = {}
    for member in range(n_members):
        groups.setdefault(find(member), []).append(member)
    return list(groups.values())


def largest_group(
    fixed: Sequence[int], moving: Sequence[int], labelled: Sequence[bool]
) -> list[int]:
    """The members to learn from where pairs do not join them all, ascending.

    Fields of separate groups cannot be compared, so one group has to do. It is the one with the
    most labelled volumes, since those alone can be dreamed; of equals the one with more members,
    then the first.

    Args:
        fixed, moving: the members of each trusted pair.
        labelled: for each member, whether its label or class may be used for training.
    """
    groups = connected_groups(fixed, moving, len(labelled))
    return max(groups, key=lambda group: (sum(labelled[m] for m in group), len(group)))


def population_affines(
    affines: torch.Tensor,
    fixed: Sequence[int],
    moving: Sequence[int],
    n_members: int,
    iterations: int = 5,
    failed: Sequence[bool] | None = None,
) -> torch.Tensor:
    """Affine maps T from a common space to each member with `A_ij ~ T_j T_i^-1`.

    Log-Euclidean least squares (Arsigny et al. 2009), repeated on what is left, with pairs that
    disagree with the rest trusted less (Huber weights). Pairs that disagree by half a circle say
    nothing.

    Args:
        affines: `(P, n, n)`, from fixed to moving points of each pair.
        fixed, moving, n_members: as in `solve_population`.
        iterations: rounds of solving and re-weighting.
        failed: pairs whose maps mean nothing; they count only for volumes that no other pair joins.

    Returns:
        `(n_members, n, n)` float64, whose logarithms have mean zero to first order.
    """
    i, j = torch.as_tensor(fixed), torch.as_tensor(moving)
    maps = identity_affine(n_members, affines.shape[-1] - 1)
    trust = torch.ones(len(fixed), dtype=torch.float64)
    if failed is not None:
        trust[torch.tensor(failed, dtype=torch.bool)] = FAILED_WEIGHT
    weights = trust
    for _ in range(iterations):
        rest, exists = affine_log_where(
            torch.linalg.inv(maps[j]) @ affines.double().cpu() @ maps[i]
        )
        weights = torch.where(exists, weights, weights.clamp(max=FAILED_WEIGHT))
        solver = _solver(fixed, moving, n_members, weights)
        step = (solver @ rest.flatten(1)).reshape(maps.shape)
        maps = maps @ affine_exp(step)
        size = (rest - (step[j] - step[i])).flatten(1).norm(dim=1)
        # where most pairs join a volume by themselves, nothing is left of these to measure by
        scale = 2 * torch.maximum(size.median(), LEAST_SPREAD * size.max()).clamp(min=1e-12)
        weights = trust * (scale / size.clamp(min=1e-12)).clamp(max=1.0)
    return maps


def _solver(
    fixed: Sequence[int], moving: Sequence[int], n_members: int, weights: torch.Tensor
) -> torch.Tensor:
    """The matrix `(N, P)` that turns differences over pairs into members of mean zero."""
    incidence = torch.zeros(len(fixed), n_members, dtype=torch.float64)
    rows = torch.arange(len(fixed))
    incidence[rows, torch.as_tensor(fixed)] -= 1
    incidence[rows, torch.as_tensor(moving)] += 1
    laplacian = incidence.T @ (weights[:, None] * incidence)
    rank = int(torch.linalg.matrix_rank(laplacian, hermitian=True))
    if rank < n_members - 1:
        raise PriorError(
            f"the registered pairs join the {n_members} volumes into {n_members - rank} separate "
            "groups, expected one: add pairs between the groups or drop the volumes left over"
        )
    gauge = torch.full((n_members, n_members), 1.0 / n_members, dtype=torch.float64)
    return torch.linalg.solve(laplacian + gauge, incidence.T * weights)
