"""Band-limited cosine basis of velocity fields and the smooth spectrum of a population."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from dreamorph.spatial.smoothing import apply_along

#: Lengths of a spectrum that are tried, per power of ten.
DECADE = 12


@dataclass(frozen=True)
class CosineBasis:
    """Orthonormal cosines (DCT-II) along each axis, up to a finest wavelength.

    Attributes:
        shape: grid of the fields.
        extent_mm: edge lengths of that grid.
        kept: number of cosines along each axis.
    """

    shape: tuple[int, ...]
    extent_mm: tuple[float, ...]
    kept: tuple[int, ...]

    @classmethod
    def up_to(
        cls, shape: Sequence[int], extent_mm: Sequence[float], wavelength_voxels: float
    ) -> "CosineBasis":
        """All cosines of at least that wavelength, two per axis at the fewest."""
        kept = [min(n, max(2, math.floor(2 * n / wavelength_voxels) + 1)) for n in shape]
        return cls(tuple(shape), tuple(extent_mm), tuple(kept))

    @property
    def size(self) -> int:
        """Number of coefficients of one field."""
        return len(self.shape) * math.prod(self.kept)

    def analyse(self, fields: torch.Tensor) -> torch.Tensor:
        """`(N, ndim, *shape)` to coefficients `(N, size)`; what is finer is dropped."""
        for axis, (n, k) in enumerate(zip(self.shape, self.kept, strict=True)):
            fields = apply_along(fields, cosines(n, k).to(fields), axis)
        return fields.flatten(1)

    def synthesise(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Coefficients `(N, size)` to fields `(N, ndim, *shape)`."""
        fields = coefficients.reshape(-1, len(self.shape), *self.kept)
        for axis, (n, k) in enumerate(zip(self.shape, self.kept, strict=True)):
            fields = apply_along(fields, cosines(n, k).to(fields).T.contiguous(), axis)
        return fields

    def matrices(self) -> tuple[torch.Tensor, ...]:
        """The cosines of every axis, `(kept, n)` each."""
        return tuple(cosines(n, k) for n, k in zip(self.shape, self.kept, strict=True))

    def frequency(self) -> torch.Tensor:
        """Spatial frequency of every coefficient `(size,)` in cycles per mm."""
        return self.distance([1.0] * len(self.shape))

    def distance(self, units_mm: Sequence[float]) -> torch.Tensor:
        """Spatial frequency of every coefficient `(size,)`, in cycles per unit of each axis."""
        axes = [
            torch.arange(k, dtype=torch.float64) * (unit / (2 * edge))
            for k, edge, unit in zip(self.kept, self.extent_mm, units_mm, strict=True)
        ]
        squared = sum(g**2 for g in torch.meshgrid(*axes, indexing="ij"))
        return torch.as_tensor(squared).sqrt().flatten().repeat(len(self.shape))

    def steps(self, units_mm: Sequence[float]) -> float:
        """Distance between neighbouring coefficients along the axis where they are nearest."""
        return min(unit / (2 * edge) for edge, unit in zip(self.extent_mm, units_mm, strict=True))


def in_shells(values: torch.Tensor, distance: torch.Tensor, step: float) -> torch.Tensor:
    """Each of some values `(M,)` replaced by the mean of those as far away, `step` by `step`."""
    shell = (distance / step).round().long()
    size = int(shell.max()) + 1
    total = torch.zeros(size, dtype=values.dtype).index_add(0, shell, values)
    return (total / torch.bincount(shell, minlength=size).clamp(min=1))[shell]


def sobolev_spectrum(frequency: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Smooth spectrum `s (1 + (l f)^2)^-p` likeliest for the power seen at each frequency.

    Whittle's likelihood over a grid of (l, p) with s in closed form. Samples with this spectrum
    form an isotropic Gaussian field of Sobolev smoothness.

    Args:
        frequency: `(M,)` in cycles per mm.
        power: `(M,)` mean squared coefficients, mm^2.

    Returns:
        `(M,)`, positive.
    """
    power = power.double().clamp(min=1e-12)
    best, best_loss = torch.full_like(power, float(power.mean())), math.inf
    for length in _lengths(frequency):
        for exponent in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0):
            shape = (1 + (length * frequency) ** 2) ** -exponent
            scale = (power / shape).mean()
            loss = float(torch.log(scale * shape).mean()) + 1.0
            if loss < best_loss:
                best, best_loss = scale * shape, loss
    return best


def _lengths(frequency: torch.Tensor) -> torch.Tensor:
    """Lengths to try, in mm: of 2 to 200, and on to where the spectrum is white, or a power law."""
    known = frequency[frequency > 0]
    first, last = 0, DECADE * 2
    if len(known):
        white, law = 0.1 / float(known.max()), 10 / float(known.min())
        first = min(first, math.floor(DECADE * (math.log10(white) - 0.3)))
        last = max(last, math.ceil(DECADE * (math.log10(law) - 0.3)))
    return 10 ** (0.3 + torch.arange(first, last + 1, dtype=torch.float64) / DECADE)


@lru_cache(maxsize=64)
def cosines(size: int, kept: int) -> torch.Tensor:
    """Orthonormal DCT-II matrix `(kept, size)`; shared, so not to be written to."""
    with torch.inference_mode(False):  # else it could not be used outside of one later
        n = torch.arange(size, dtype=torch.float64)
        k = torch.arange(kept, dtype=torch.float64).unsqueeze(1)
        matrix = torch.cos(math.pi * (n + 0.5) * k / size) * math.sqrt(2 / size)
        matrix[0] /= math.sqrt(2)
    return matrix
