"""Smooth weights by which every place takes its own mixture of the members' deformations.

A few members span few deformations, and what they have in common over long distances is mostly
chance. Tapering their covariance with distance, the Schur product of ensemble forecasting (Gaspari
and Cohn 1999; Houtekamer and Mitchell 2001), removes that and multiplies what they span: a draw is
`sum_j a_j(x) w_j(x)` with weights a_j that vary smoothly over a given length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dreamorph.prior.basis import cosines
from dreamorph.spatial.smoothing import apply_along

#: Cosines whose power is less than this share of the strongest are left out.
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True)
class Localisation:
    """A stationary Gaussian random field of unit variance on a grid.

    Its correlation falls with distance r about as `exp(-r^2 / (2 length^2))`, mirrored at the
    grid's faces.

    Attributes:
        factors: per axis `(n, k)`, rows of unit norm; a field is their product with white noise.
    """

    factors: tuple[torch.Tensor, ...]

    @classmethod
    def of_length(
        cls, shape: Sequence[int], extent_mm: Sequence[float], length_mm: float
    ) -> "Localisation":
        """Weights that vary over `length_mm`; infinity gives one weight for the whole grid."""
        factors = []
        for n, edge in zip(shape, extent_mm, strict=True):
            order = torch.arange(n, dtype=torch.float64)
            if math.isinf(length_mm):
                power = (order == 0).double()
            else:
                power = torch.exp(-0.5 * (math.pi * order / edge * length_mm) ** 2)
            kept = int((power > _NEGLIGIBLE).sum())
            factor = cosines(n, kept).T * power[:kept].sqrt()
            factors.append(factor / factor.norm(dim=1, keepdim=True))
        return cls(tuple(factors))

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """`count` independent fields `(count, *shape)`, float32."""
        fields = torch.randn(count, *[f.shape[1] for f in self.factors], generator=generator)
        for axis, factor in enumerate(self.factors):
            fields = apply_along(fields[:, None], factor.float(), axis)[:, 0]
        return fields

    def correlation(self, sites: Sequence[torch.Tensor]) -> torch.Tensor:
        """Correlation `(P, P)` between the points of a sub-grid, given by its indices per axis."""
        product = torch.ones(1, 1, dtype=torch.float64)
        for factor, index in zip(self.factors, sites, strict=True):
            product = torch.kron(product, factor[index] @ factor[index].T)
        return product
