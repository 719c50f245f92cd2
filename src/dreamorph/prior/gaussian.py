"""A Gaussian with few samples in many dimensions: weighted samples plus an isotropic residual."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class ShrunkGaussian:
    """`N(mean, (1 - r) F F^T + r t I)` with `t = trace(F F^T) / M`.

    The coordinates are whitened by the population's smooth spectrum before, so the identity stands
    for an isotropic smooth field. Shrinkage keeps the total variance (the form of Ledoit and Wolf
    2004; the share r is chosen by the likelihood of left-out subjects instead).

    Attributes:
        mean: `(M,)`.
        modes: `(q, M)` orthonormal eigenvectors of F F^T.
        variances: `(q,)` their eigenvalues, decreasing.
        shrinkage: r.
    """

    mean: torch.Tensor
    modes: torch.Tensor
    variances: torch.Tensor
    shrinkage: float = 0.0

    @property
    def residual_variance(self) -> float:
        """Variance of the isotropic residual in every direction."""
        return self.shrinkage * float(self.variances.sum()) / self.mean.numel()

    @property
    def mode_deviations(self) -> torch.Tensor:
        """Standard deviations `(q,)` of the modes, residual not counted."""
        return ((1 - self.shrinkage) * self.variances).sqrt()

    def deviation(self, scores: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Random part `(..., M)` from standard normal scores `(..., q)` and noise `(..., M)`."""
        return (scores * self.mode_deviations) @ self.modes + noise * self.residual_variance**0.5

    def log_density(self, points: torch.Tensor) -> torch.Tensor:
        """Natural logarithm of the density at points `(n, M)`, `(n,)`; needs shrinkage > 0."""
        size, noise = self.mean.numel(), self.residual_variance
        within = float(torch.log(self.mode_deviations**2 + noise).sum())
        rest = (size - len(self.variances)) * math.log(noise)
        constant = within + rest + size * math.log(2 * math.pi)
        return -0.5 * (self.mahalanobis(points) + constant)

    def mahalanobis(self, points: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distances `(n,)` of points `(n, M)`; needs shrinkage > 0."""
        centred = points - self.mean
        along = centred @ self.modes.T
        noise = self.residual_variance
        within = (along**2 / (self.mode_deviations**2 + noise)).sum(1)
        outside = (centred**2).sum(1) - (along**2).sum(1)
        return within + outside.clamp(min=0) / noise


def fit_class(
    points: torch.Tensor, classes: Sequence[str | None], cls: str | None, pooling: float
) -> ShrunkGaussian:
    """The Gaussian of one class within a population, partially pooled, not yet shrunk.

    Args:
        points: `(n, M)`.
        classes: class of each point, None where unknown.
        cls: the class; None is the whole population.
        pooling: pull towards the whole population, in cases: a class of that many members is half
            itself and half everybody, in its mean and in its covariance.
    """
    own = torch.tensor([cls is not None and c == cls for c in classes])
    count, total = int(own.sum()), len(points)
    share = count / (count + pooling) if count else 0.0
    mean = points.mean(0)
    weights = torch.full((total,), (1 - share) / max(total - 1, 1), dtype=points.dtype)
    if count:
        mean = share * points[own].mean(0) + (1 - share) * mean
        weights[own] += share / max(count - 1, 1)
    factor = centre_by_class(points, classes) * weights.sqrt()[:, None]
    values, vectors = torch.linalg.eigh(factor @ factor.T)
    kept = values > 1e-9 * values[-1].clamp(min=1e-30)
    values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
    return ShrunkGaussian(mean, (factor.T @ vectors / values.sqrt()).T, values)


def centre_by_class(points: torch.Tensor, classes: Sequence[str | None]) -> torch.Tensor:
    """Points minus the mean of their class (of all, for those without a class)."""
    centred = points - points.mean(0)
    for cls in {c for c in classes if c is not None}:
        own = torch.tensor([c == cls for c in classes])
        centred[own] = points[own] - points[own].mean(0)
    return centred


def left_out(
    points: torch.Tensor, subjects: Sequence[str], classes: Sequence[str | None]
) -> Iterator[tuple[torch.Tensor, list[str | None], torch.Tensor, str | None]]:
    """For every point: the points and classes of the other subjects, the point, its class."""
    for index, subject in enumerate(subjects):
        others = torch.tensor([s != subject for s in subjects])
        kept = [c for c, o in zip(classes, others.tolist(), strict=True) if o]
        cls = classes[index] if classes[index] in kept else None
        yield points[others], kept, points[index], cls


def choose_shrinkage(
    points: torch.Tensor,
    subjects: Sequence[str],
    classes: Sequence[str | None],
    pooling: float,
    candidates: Sequence[float],
) -> float:
    """The share of the residual under which the points of left-out subjects are likeliest."""
    scores = torch.zeros(len(candidates), dtype=torch.float64)
    for rest, kept, row, cls in left_out(points, subjects, classes):
        gaussian = fit_class(rest, kept, cls, pooling)
        if len(gaussian.variances):
            for k, share in enumerate(candidates):
                scores[k] += float(replace(gaussian, shrinkage=share).log_density(row[None]))
    return candidates[int(scores.argmax())]
