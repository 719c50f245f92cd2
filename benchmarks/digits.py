"""Handwritten digits: data, class-wise priors, and the random warps of every arm, all in 2D."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.cohorts import ROOT
from dreamorph.dreaming import ElasticWarps
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
    affine=None,
    velocity=VelocityConfig(
        levels=(4, 2, 1), iterations=(40, 40, 40), factor=2, diffusion=0.2, bending=0.5
    ),
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

    def fold(self, number: int, folds: int) -> tuple["Digits", "Digits"]:
        """All but one of so many folds of every class, and that one."""
        rank = torch.empty_like(self.classes)
        for k in range(CLASSES):
            own = self.classes == k
            rank[own] = torch.arange(int(own.sum())) * folds // max(1, int(own.sum()))
        held_out = rank == number
        return self.rows(~held_out), self.rows(held_out)


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


def learn_deviations(digits: Digits, pool: int, file: Path, seed: int = 0) -> torch.Tensor:
    """How digits of a class differ from its mean: one prior per class, `pool` draws of each.

    Each prior knows pairs within its class alone. `(10, pool, 2, *coarse)`, kept in a file, from
    which it is read again.
    """
    if not file.exists():
        drawn = []
        for k in range(CLASSES):
            prior = _learn(digits.images[digits.classes == k], seed + k)
            generator = torch.Generator().manual_seed(k)
            drawn.append(prior.sample(pool, generator) - prior.mean())
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.stack(drawn), file)
    deviations: torch.Tensor = torch.load(file, weights_only=True)
    return deviations


class DigitDreams:
    """Warps each digit as digits of its class differ: Hauberg et al., AISTATS 2016.

    The deviation is added to the digit's own shape, which stays. Warped into the shape of a newly
    drawn digit instead, as dreams of scans are, digits teach less (docs/evidence.md).
    """

    def __init__(self, deviations: torch.Tensor, classes: torch.Tensor, scale: float) -> None:
        """`scale` is a factor on the deviations."""
        self.classes, self.pool = classes, scale * deviations

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """See `WarpSampler.sample`."""
        pick = torch.randint(self.pool.shape[1], (len(members),), generator=generator)
        velocity = self.pool[self.classes[members], pick]
        eye = identity_affine(len(members), 2)
        return members, SpatialTransform(eye, velocity, eye, SHAPE, SPACING)


class SummedWarps:
    """Random warps on top of dreams: the velocities added, so that one flow carries both."""

    def __init__(self, dreams: WarpSampler, random: WarpSampler) -> None:
        self.dreams, self.random = dreams, random

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """See `WarpSampler.sample`."""
        sources, dreamt = self.dreams.sample(members, generator)
        _, added = self.random.sample(members, generator)
        if dreamt.velocity is None or added.velocity is None:
            raise ValueError("both kinds of warps need a velocity")
        return sources, replace(dreamt, velocity=dreamt.velocity + added.velocity)


def random_warps(energy: float, sigma_mm: float) -> WarpSampler:
    """Smooth random warps of a mean squared velocity, pixels^2, and a width, pixels."""
    coarse = (SIDE // 2, SIDE // 2)
    return ElasticWarps(
        SHAPE,
        SPACING,
        coarse,
        Strength(energy, (sigma_mm,) * len(SHAPE)),
    )


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
    return DeformationPrior(PRIOR).fit(population.members.float(), (float(SIDE), float(SIDE)))


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
