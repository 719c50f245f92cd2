"""Handwritten digits: data, class-wise priors, and the random warps of every arm, all in 2D."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.cohorts import ROOT
from dreamorph.dreaming import ElasticWarpConfig, ElasticWarps
from dreamorph.dreaming.samplers import IdentityWarps, WarpSampler
from dreamorph.dreaming.strength import Strength
from dreamorph.prior import DeformationPrior, PriorConfig, solve_population
from dreamorph.registration import RegistrationConfig, VelocityConfig, register
from dreamorph.spatial import SpatialTransform
from dreamorph.spatial.affine import identity_affine

#: 28 x 28 pixels within a margin, so that no level of the pyramid ends in half a pixel.
SIDE, MARGIN = 32, 2
SHAPE, SPACING = (SIDE, SIDE), (1.0, 1.0)
CLASSES = 10
#: Ink, for the overlap term: a digit is its own label map.
INK = 0.5
#: Partners of each digit within its class.
PARTNERS = 2
REGISTRATION = RegistrationConfig(
    affine=None, velocity=VelocityConfig(levels=(4, 2, 1), iterations=(40, 40, 40), factor=2)
)
PRIOR = PriorConfig(wavelength_voxels=4.0)
#: Pairs registered at once.
BATCH = 256


@dataclass(frozen=True)
class Digits:
    """Images `(N, 1, 32, 32)` in 0..1 and classes `(N,)`."""

    images: torch.Tensor
    classes: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: torch.Tensor) -> "Digits":
        """These digits, in this order."""
        return Digits(self.images[index], self.classes[index])

    def first_per_class(self, count: int, skip: int = 0) -> "Digits":
        """`count` digits of every class, the first ones after `skip`, in their order."""
        rows = [torch.nonzero(self.classes == k)[skip : skip + count, 0] for k in range(CLASSES)]
        return self.rows(torch.cat(rows).sort().values)


def load_digits() -> tuple[Digits, Digits]:
    """The 60,000 for training and the 10,000 for testing."""
    folder = Path(os.environ.get("DREAMORPH_REAL_DATA", ROOT.parent / "shared" / "data"))
    path = folder / "mnist.npz"
    if not path.exists():
        raise SystemExit(f"{path.name} is not in {folder.name}: set DREAMORPH_REAL_DATA")
    with np.load(path) as data:
        return tuple(  # type: ignore[return-value]
            Digits(_padded(data[f"x_{part}"]), torch.from_numpy(data[f"y_{part}"]).long())
            for part in ("train", "test")
        )


@dataclass(frozen=True)
class Shapes:
    """What priors know of a set of digits.

    Attributes:
        own: `(N, 2, *coarse)`, the field of every digit, from the common space of its class.
        means: `(10, 2, *coarse)`, of each class.
        drawn: `(10, pool, 2, *coarse)`, fields drawn from each class's prior.
    """

    own: torch.Tensor
    means: torch.Tensor
    drawn: torch.Tensor


def learn_shapes(digits: Digits, pool: int, file: Path, seed: int = 0) -> Shapes:
    """One prior per class, from pairs within the class alone, and `pool` draws of each.

    Kept in a file, from which it is read again.
    """
    if not file.exists():
        own, means, drawn = None, [], []
        for k in range(CLASSES):
            inside = digits.classes == k
            prior = _learn(digits.images[inside], seed + k)
            if own is None:
                own = torch.zeros(len(digits), *prior.fields.shape[1:])
            own[inside] = prior.fields
            means.append(prior.mean())
            drawn.append(prior.sample(pool, torch.Generator().manual_seed(k)))
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save([own, torch.stack(means), torch.stack(drawn)], file)
    return Shapes(*torch.load(file, weights_only=True))


class DigitDreams:
    """Warps each digit into the shape of a newly drawn one of its class."""

    def __init__(self, shapes: Shapes, classes: torch.Tensor, scale: float) -> None:
        """`scale` is a factor on the deviation of the drawn shapes from their class's mean."""
        self.own, self.classes = shapes.own, classes
        means = shapes.means[:, None]
        self.pool = means + scale * (shapes.drawn - means)

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """See `WarpSampler.sample`."""
        pick = torch.randint(self.pool.shape[1], (len(members),), generator=generator)
        target = self.pool[self.classes[members], pick]
        eye = identity_affine(len(members), 2)
        return members, SpatialTransform(eye, self.own[members] - target, eye, SHAPE, SPACING)


def random_warps(energy: float, sigma_mm: float) -> WarpSampler:
    """Smooth random warps of a mean squared velocity, pixels^2, and a width, pixels."""
    coarse = (SIDE // 2, SIDE // 2)
    return ElasticWarps(SHAPE, SPACING, coarse, ElasticWarpConfig(), Strength(energy, sigma_mm))


def still() -> WarpSampler:
    """Digits as they are."""
    return IdentityWarps(SHAPE, SPACING)


def _padded(images: np.ndarray) -> torch.Tensor:
    volume = torch.from_numpy(images).float()[:, None] / 255
    return torch.nn.functional.pad(volume, [MARGIN] * 4)


def _learn(images: torch.Tensor, seed: int) -> DeformationPrior:
    fixed, moving = _partners(len(images), seed)
    velocities = []
    for start in range(0, len(fixed), BATCH):
        i, j = (torch.tensor(rows[start : start + BATCH]) for rows in (fixed, moving))
        ink = (images > INK).to(torch.uint8)
        result = register(images[i], images[j], REGISTRATION, ink[i], ink[j], spacing=SPACING)
        velocities.append(result.velocity)
    population = solve_population(torch.cat(velocities), fixed, moving, len(images))
    return DeformationPrior(PRIOR).fit(population.fields, (float(SIDE), float(SIDE)))


def _partners(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Every digit with the next ones of several random rings, so that all are joined."""
    generator = torch.Generator().manual_seed(seed)
    pairs: set[tuple[int, int]] = set()
    for _ in range(min(PARTNERS, count - 1)):
        ring = torch.randperm(count, generator=generator).tolist()
        pairs |= {
            (min(a, b), max(a, b)) for a, b in zip(ring, ring[1:] + ring[:1], strict=True) if a != b
        }
    order = sorted(pairs)
    return [a for a, _ in order], [b for _, b in order]
