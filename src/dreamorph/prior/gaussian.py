"""A Gaussian over velocity fields: local mixtures of few members plus a smooth residual."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from dreamorph.prior.basis import CosineBasis
from dreamorph.prior.localisation import Localisation

#: Products of weights and members that are added up at a time, so that they stay near: of large
#: grids all at once take three times as long.
TOGETHER = 2**17


@dataclass(frozen=True)
class Residual:
    """Isotropic smooth deformation with the population's spectrum, one mm^2 per voxel.

    Attributes:
        basis: cosines of the band.
        spectrum: `(M,)` variance of each, of any scale.
    """

    basis: CosineBasis
    spectrum: torch.Tensor

    def __post_init__(self) -> None:
        voxels = math.prod(self.basis.shape)
        scaled = self.spectrum * (voxels / self.spectrum.sum())
        object.__setattr__(self, "spectrum", scaled)

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """One field `(ndim, *coarse)`; its squared length is 1 mm^2 on average."""
        noise = torch.randn(len(self.spectrum), generator=generator, dtype=torch.float64)
        return self.basis.synthesise((noise * self.spectrum.sqrt())[None])[0]

    def covariance(self, sites: Sequence[torch.Tensor]) -> torch.Tensor:
        """Covariance `(ndim * P, ndim * P)` of a field's values on a sub-grid."""
        ndim = len(self.basis.shape)
        kernel = torch.ones(1, 1, dtype=torch.float64)
        for row, index in zip(self.basis.matrices(), sites, strict=True):
            kernel = torch.kron(kernel, row.T[index])
        blocks = [(kernel * own) @ kernel.T for own in self.spectrum.reshape(ndim, -1)]
        return torch.block_diag(*blocks)


@dataclass(frozen=True)
class MemberGaussian:
    """`N(mean, (1 - r) rho * (F F^T) + r t S)`: rho tapers with distance, S is the residual.

    `rho * (...)` multiplies entry by entry. t is the mean variance of F F^T, so the share r of the
    residual keeps the total variance (the form of Ledoit and Wolf 2004).

    Attributes:
        mean: `(ndim, *coarse)` mm.
        factor: `(n, ndim, *coarse)` mm, members' weighted deviations: the columns of F.
        residual: what the members do not show.
        localisation: rho.
        shrinkage: r.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    residual: Residual
    localisation: Localisation
    shrinkage: float

    @cached_property
    def variance(self) -> float:
        """Mean squared deviation from the mean, mm^2 per voxel and summed over axes."""
        return float(self.factor.double().square().sum((0, 1)).mean())

    def sample(self, generator: torch.Generator, scale: float = 1.0) -> torch.Tensor:
        """One field `(ndim, *coarse)` float32 in mm, its deviation from the mean times `scale`."""
        weights = self.localisation.sample(len(self.factor), generator)
        planes = max(1, TOGETHER // self._single[:, :, 0].numel())
        parts = zip(weights.split(planes, dim=1), self._single.split(planes, dim=2), strict=True)
        mixed = torch.cat([(weight[:, None] * part).sum(0) for weight, part in parts], dim=1)
        rest = self.residual.sample(generator) * math.sqrt(self.shrinkage * self.variance)
        return self.mean.float() + scale * (math.sqrt(1 - self.shrinkage) * mixed + rest.float())

    @cached_property
    def _single(self) -> torch.Tensor:
        """The factor in single precision, as draws take it."""
        return self.factor.float()

    def modes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Principal fields `(q, ndim, *coarse)` of the members and their variances `(q,)`.

        The fields have unit norm over the voxels, strongest first; neither rho nor the residual is
        in them.
        """
        flat = self.factor.double().flatten(1)
        values, vectors = torch.linalg.eigh(flat @ flat.T)
        kept = values > 1e-9 * values[-1].clamp(min=1e-30)
        values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
        fields = (flat.T @ vectors / values.sqrt()).T
        return fields.reshape(-1, *self.mean.shape), values

    def at(self, sites: Sequence[torch.Tensor]) -> "SiteGaussian":
        """The same Gaussian for the values on a sub-grid, before members and residual are mixed."""
        ndim, factor = len(self.mean), on_sites(self.factor, sites)
        taper = self.localisation.correlation(sites).repeat(ndim, ndim)
        members = taper * (factor.T @ factor)
        residual = self.residual.covariance(sites) * self.variance
        return SiteGaussian.of(on_sites(self.mean[None], sites)[0], members, residual)


@dataclass(frozen=True)
class SiteGaussian:
    """Two covariances on a few sites, diagonal together: any mixture of them costs nothing more.

    Attributes:
        mean: `(P,)`.
        whiten: `(P, P)`, takes deviations to coordinates in which the residual is white.
        values: `(P,)`, variance of the members in these coordinates.
        log_volume: log determinant of the residual.
    """

    mean: torch.Tensor
    whiten: torch.Tensor
    values: torch.Tensor
    log_volume: float

    @classmethod
    def of(
        cls, mean: torch.Tensor, members: torch.Tensor, residual: torch.Tensor
    ) -> "SiteGaussian":
        """Diagonalise both covariances at once."""
        ridge = 1e-9 * residual.diagonal().mean() * torch.eye(len(residual), dtype=residual.dtype)
        lower = torch.linalg.cholesky(residual + ridge)
        inverse = torch.linalg.inv(lower)
        values, vectors = torch.linalg.eigh(inverse @ members @ inverse.T)
        volume = 2 * float(lower.diagonal().log().sum())
        return cls(mean, vectors.T @ inverse, values.clamp(min=0), volume)

    def mahalanobis(self, points: torch.Tensor, shrinkage: float) -> torch.Tensor:
        """Squared Mahalanobis distances `(n,)` of points `(n, P)`; needs shrinkage > 0."""
        along = (points - self.mean) @ self.whiten.T
        return (along.square() / self._spread(shrinkage)).sum(1)

    def log_density(self, points: torch.Tensor, shrinkage: float) -> torch.Tensor:
        """Natural logarithm of the density at points `(n, P)`, `(n,)`; needs shrinkage > 0."""
        constant = len(self.mean) * math.log(2 * math.pi) + self.log_volume
        constant += float(self._spread(shrinkage).log().sum())
        return -0.5 * (self.mahalanobis(points, shrinkage) + constant)

    def _spread(self, shrinkage: float) -> torch.Tensor:
        return (1 - shrinkage) * self.values + shrinkage


def fit_class(
    fields: torch.Tensor, classes: Sequence[str | None], cls: str | None, pooling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and factor of one class within a population, partially pooled.

    Args:
        fields: `(n, ndim, *coarse)`, or any `(n, ...)`.
        classes: class of each field, None where unknown.
        cls: the class; None is the whole population.
        pooling: pull towards the whole population, in cases: a class of that many members is half
            itself and half everybody, in its mean and in its covariance. A class of one member
            shows no covariance and takes everybody's.

    Returns:
        The mean `(...)`, and deviations `(n, ...)` whose outer products add up to the covariance.
    """
    own = torch.tensor([cls is not None and c == cls for c in classes])
    count, total = int(own.sum()), len(fields)
    share = count / (count + pooling) if count else 0.0
    mean = fields.mean(0)
    if count:
        mean = share * fields[own].mean(0) + (1 - share) * mean
    if count < 2:
        share = 0.0
    means = max(len(_told_apart(classes)), 1)  # each mean taken off costs a degree of freedom
    weights = torch.full((total,), (1 - share) / max(total - means, 1), dtype=fields.dtype)
    if share:
        weights[own] += share / (count - 1)
    weights = weights.reshape(-1, *[1] * (fields.dim() - 1))
    return mean, centre_by_class(fields, classes) * weights.sqrt()


def centre_by_class(fields: torch.Tensor, classes: Sequence[str | None]) -> torch.Tensor:
    """Fields minus the mean of their class (of all, for those without a class).

    Where no class has two members that would leave nothing: there all are of one class.
    """
    centred = fields - fields.mean(0)
    for cls in _told_apart(classes):
        own = torch.tensor([c == cls for c in classes])
        centred[own] = fields[own] - fields[own].mean(0)
    return centred


def _told_apart(classes: Sequence[str | None]) -> set[str]:
    """The known classes; none where every one of them has a single member."""
    counts = Counter(c for c in classes if c is not None)
    return set(counts) if max(counts.values(), default=0) > 1 else set()


def folds(
    subjects: Sequence[str], classes: Sequence[str | None], count: int
) -> Iterator[tuple[list[int], dict[str | None, list[int]]]]:
    """Groups of subjects left out in turn: the rows that stay, and those left out by class.

    A row whose class does not stay counts as of no class.
    """
    names = sorted(set(subjects))
    for start in range(min(count, len(names))):
        out = set(names[start::count])
        stay = [row for row, subject in enumerate(subjects) if subject not in out]
        known = {classes[row] for row in stay}
        left: dict[str | None, list[int]] = {}
        for row, subject in enumerate(subjects):
            if subject in out:
                left.setdefault(classes[row] if classes[row] in known else None, []).append(row)
        if len(stay) > 1:
            yield stay, left


def choose_sites(basis: CosineBasis, limit: int) -> tuple[torch.Tensor, ...]:
    """A regular sub-grid with at most `limit` values of a field, given by its indices per axis.

    No axis gets more sites than the basis has cosines, so a field of the basis can take any values
    there.
    """
    counts = list(basis.kept)
    while len(basis.shape) * math.prod(counts) > limit and max(counts) > 1:
        counts[counts.index(max(counts))] -= 1
    return tuple(
        ((torch.arange(k, dtype=torch.float64) + 0.5) * n / k).long()
        for n, k in zip(basis.shape, counts, strict=True)
    )


def on_sites(fields: torch.Tensor, sites: Sequence[torch.Tensor]) -> torch.Tensor:
    """Values `(n, ndim * P)` float64 of fields `(n, ndim, *coarse)` on a sub-grid."""
    values = fields.double()
    for axis, index in enumerate(sites):
        values = values.index_select(2 + axis, index)
    return values.flatten(1)
