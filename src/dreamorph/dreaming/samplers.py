"""Random warps for training: none, affine, elastic, dreamed; all rendered the same way."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import torch

from dreamorph.dreaming.config import AffineWarpConfig
from dreamorph.dreaming.dreamer import Dreamer
from dreamorph.dreaming.dreams import Recipe
from dreamorph.dreaming.strength import Strength
from dreamorph.errors import DreamError
from dreamorph.prior import DeformationPrior, Draw
from dreamorph.prior.basis import in_shells
from dreamorph.spatial.affine import affine_exp, identity_affine
from dreamorph.spatial.smoothing import gaussian_smooth
from dreamorph.spatial.transform import SpatialTransform, concatenate

#: Maps of a pool of dreams are kept up to this size, and so are deviations.
POOL_BYTES = 2**30
#: Deviations of each class that training draws from, and those that tell the prior's spectrum.
DEVIATIONS, OF_SPECTRUM = 512, 128
#: Power of a cosine, mm^2, that counts as none.
TINY = 1e-12


class WarpSampler(Protocol):
    """Draws, for each volume of a batch, which volume to warp and how."""

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """Rows of the training volumes to warp in place of `members` `(B,)`, and the maps."""
        ...


class IdentityWarps:
    """Volumes as they are."""

    def __init__(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> None:
        self.shape, self.spacing_mm = tuple(shape), tuple(spacing_mm)

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """The members themselves, unmoved."""
        return members, SpatialTransform.identity(len(members), self.shape, self.spacing_mm)


class AffineWarps:
    """Random affine maps after another sampler's warps, in the same interpolation."""

    def __init__(self, inner: WarpSampler, config: AffineWarpConfig) -> None:
        self.inner, self.config = inner, config

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """The inner warp of each member, moved as a whole."""
        sources, transform = self.inner.sample(members, generator)
        affine = random_affine(len(members), len(transform.shape), self.config, generator)
        return sources, transform.before(affine)


class ElasticWarps:
    """Smooth random diffeomorphisms without a learned direction."""

    def __init__(
        self,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        coarse: Sequence[int],
        strength: Strength,
    ) -> None:
        """Warps as strong and as rough as `strength` says."""
        self.shape, self.spacing_mm, self.coarse = tuple(shape), tuple(spacing_mm), tuple(coarse)
        edges = [n * s for n, s in zip(self.shape, self.spacing_mm, strict=True)]
        self.sigma = [s * n / e for s, n, e in zip(strength.sigma_mm, coarse, edges, strict=True)]
        self.deviation = math.sqrt(strength.energy / len(self.shape))

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """The members, each under a warp of its own."""
        noise = torch.randn(len(members), len(self.coarse), *self.coarse, generator=generator)
        smooth = gaussian_smooth(noise, self.sigma)
        scale = self._white_to_unit
        eye = identity_affine(len(members), len(self.shape))
        velocity = smooth * (scale * self.deviation)
        return members, SpatialTransform(eye, velocity, eye, self.shape, self.spacing_mm)

    @property
    def _white_to_unit(self) -> float:
        """One over the root mean square of smoothed white noise on this grid."""
        gain = 1.0
        for size, sigma in zip(self.coarse, self.sigma, strict=True):
            line = torch.eye(size).reshape(size, 1, size, 1)
            gain *= float(gaussian_smooth(line, [sigma, 0.0]).square().sum()) / size
        return gain**-0.5


class DreamWarps:
    """Dreams out of a pool of accepted recipes."""

    def __init__(
        self,
        dreamer: Dreamer,
        recipes: Sequence[Recipe],
        cases: Sequence[str],
        classes: Sequence[str | None],
        shape: Sequence[int],
        fraction: float = 1.0,
        otherwise: WarpSampler | None = None,
        draws: Sequence[Draw] | None = None,
    ) -> None:
        """Dreams out of a pool.

        Args:
            dreamer: makes their maps.
            recipes: the pool.
            cases, classes: of the training volumes, by row.
            shape: of the volumes.
            fraction: share of dreams; the rest stays as it is.
            otherwise: warps volumes of a class of which there is no dream; None leaves them as they
                are.
            draws: of the recipes, where they are at hand; None draws them again.

        Raises:
            DreamError: the pool is empty.
        """
        if not recipes:
            raise DreamError("no accepted dream to train on: see the reasons in the dream table")
        self.otherwise = otherwise
        self.dreamer, self.recipes, self.shape = dreamer, list(recipes), tuple(shape)
        self.rows = {case: row for row, case in enumerate(cases)}
        self.classes, self.fraction = list(classes), fraction
        self.pools: dict[str | None, list[int]] = {}
        for k, recipe in enumerate(self.recipes):
            self.pools.setdefault(recipe.cls, []).append(k)
        self.draws = draws
        self._drawn: dict[int, SpatialTransform] = {}

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """A dream of any source of its class in place of each member, or the member unmoved.

        Classes come up as often as they do among the members, in every arm: the loss weighs them by
        that.
        """
        own = [self.classes[row] for row in members.tolist()]
        picks = torch.zeros(len(members), dtype=torch.long)
        lacking = torch.tensor([cls not in self.pools for cls in own])
        for cls, pool in self.pools.items():
            here = [k for k, one in enumerate(own) if one == cls]
            drawn = torch.randint(len(pool), (len(here),), generator=generator)
            picks[here] = torch.tensor(pool)[drawn]
        transform = concatenate([self._transform(k) for k in picks.tolist()])
        sources = torch.tensor([self.rows[self.recipes[k].source] for k in picks.tolist()])
        still = torch.rand(len(members), generator=generator) >= self.fraction
        if lacking.any():
            sources = torch.where(lacking, members, sources)
            if self.otherwise is None:
                still |= lacking
            else:
                _, other = self.otherwise.sample(members, generator)
                transform = either(lacking, other, transform)
        return torch.where(still, members, sources), _freeze(transform, still)

    def _transform(self, index: int) -> SpatialTransform:
        """The map of one recipe, drawn once: a pool is shown many times over."""
        if index not in self._drawn:
            draws = None if self.draws is None else [self.draws[index]]
            one = self.dreamer.transforms([self.recipes[index]], self.shape, draws)
            size = 0 if one.velocity is None else one.velocity.nbytes
            if (len(self._drawn) + 1) * size > POOL_BYTES:
                return one
            self._drawn[index] = one
        return self._drawn[index]


class LearnedWarps:
    """Warps in learned directions: each volume around its own shape, as far as one asks.

    A deviation from the mean of the volume's class is drawn from the prior and added to the
    volume's own shape, as Hauberg et al. (AISTATS 2016) add what they learned to a digit. The prior
    knows it in the common space, where volume i lies at `T_i . exp(w_i)`; the volume is pulled
    through `T_i . exp(deviation) . T_i^-1`, so that it varies where its anatomy does. The
    counterpart of `ElasticWarps` at equal energy and with the same mean spectrum: only the
    directions differ. Far beyond the population's own what is shown is nobody's anatomy, as it is
    under random warps.
    """

    def __init__(
        self,
        prior: DeformationPrior,
        cases: Sequence[str],
        classes: Sequence[str | None],
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        energy: float,
        sigma_mm: Sequence[float] | None = None,
    ) -> None:
        """Deviations from the prior's mean, as strong as `energy` says.

        Args:
            prior: what is drawn from.
            cases, classes: of the training volumes, by row. Volumes of a class of which the prior
                has no member deviate as those of the others do; the place in the common space of
                one that is no member itself is not known, and taken as its own.
            shape, spacing_mm: the common grid.
            energy: in mm^2 per voxel of the common space, over all axes.
            sigma_mm: makes them as rough as white noise under a Gaussian of these widths, as far as
                the prior's own band goes; None leaves them as smooth as the population.
        """
        self.prior, self.shape, self.spacing_mm = prior, tuple(shape), tuple(spacing_mm)
        self.classes = list(classes)
        known = {case: row for row, case in enumerate(prior.members)}
        self.poses = identity_affine(len(self.classes), len(self.shape))
        for row, case in enumerate(cases):
            if case in known:
                self.poses[row] = prior.affines[known[case]]
        self.energy, self.sigma_mm = energy, sigma_mm
        self._drawn: dict[tuple[str | None, int], torch.Tensor] = {}

    def sample(
        self, members: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, SpatialTransform]:
        """The members, each under a deviation of its class."""
        picks = torch.randint(DEVIATIONS, (len(members),), generator=generator).tolist()
        signs = 2 * torch.randint(2, (len(members),), generator=generator) - 1
        drawn = [
            sign * self._deviation(self.classes[row], pick)
            for row, pick, sign in zip(members.tolist(), picks, signs.tolist(), strict=True)
        ]
        pose = self.poses[members.cpu()]
        back, velocity = torch.linalg.inv(pose), torch.stack(drawn)
        return members, SpatialTransform(back, velocity, pose, self.shape, self.spacing_mm)

    def _deviation(self, cls: str | None, seed: int) -> torch.Tensor:
        """The deviation of a class that belongs to a seed, drawn once."""
        if (cls, seed) not in self._drawn:
            names = self.prior.class_names
            drawn = self._shaped(self._own(cls if cls in names else names[seed % len(names)], seed))
            if (len(self._drawn) + 1) * drawn.nbytes > POOL_BYTES:
                return drawn
            self._drawn[cls, seed] = drawn
        return self._drawn[cls, seed]

    def _own(self, cls: str | None, seed: int) -> torch.Tensor:
        """A deviation as the prior draws it."""
        return self.prior.draw(seed, cls).field - self.prior.mean(cls)

    def _shaped(self, deviation: torch.Tensor) -> torch.Tensor:
        """A deviation of the prior, as strong and as rough as asked."""
        if self.sigma_mm is None:
            return deviation * math.sqrt(self.energy / self.prior.energy())
        basis = self.prior.basis
        return basis.synthesise(basis.analyse(deviation[None].double()) * self._gains)[0].float()

    @cached_property
    def _gains(self) -> torch.Tensor:
        """Factor on each coefficient: from the prior's mean spectrum to the one asked for."""
        assert self.sigma_mm is not None
        basis, names = self.prior.basis, self.prior.class_names
        drawn = torch.stack([self._own(names[s % len(names)], s) for s in range(OF_SPECTRUM)])
        power = basis.analyse(drawn.double()).square().mean(0)
        distance = basis.distance(self.sigma_mm)
        mean = in_shells(power, distance, basis.steps(self.sigma_mm))
        gains = (torch.exp(-((2 * math.pi * distance) ** 2)) / mean.clamp(min=TINY)).sqrt()
        energy = float((gains.square() * power).sum()) / math.prod(basis.shape)
        return gains * math.sqrt(self.energy / energy)


def random_affine(
    batch: int, ndim: int, config: AffineWarpConfig, generator: torch.Generator
) -> torch.Tensor:
    """`batch` affine maps `(B, n, n)` about the grid's centre."""
    draw = 2 * torch.rand(batch, ndim, ndim + 1, generator=generator, dtype=torch.float64) - 1
    turn = 2 * torch.rand(batch, ndim, ndim, generator=generator, dtype=torch.float64) - 1
    log = torch.zeros(batch, ndim + 1, ndim + 1, dtype=torch.float64)
    shear = draw[:, :, :ndim] * config.shear
    skew = torch.triu(turn, diagonal=1) * math.radians(config.rotation_deg)
    log[:, :ndim, :ndim] = shear + skew - skew.transpose(1, 2)
    diagonal = torch.arange(ndim)
    log[:, diagonal, diagonal] = draw[:, diagonal, diagonal] * config.log_scale
    log[:, :ndim, ndim] = draw[:, :, ndim] * config.shift_mm
    return affine_exp(log)


def either(first: torch.Tensor, one: SpatialTransform, other: SpatialTransform) -> SpatialTransform:
    """Map by map `one` where `first` `(B,)` is true, else `other`."""
    matrix = first[:, None, None]
    velocity = None
    if one.velocity is not None or other.velocity is not None:
        velocities = _as_velocity(one, other), _as_velocity(other, one)
        spread = first.reshape(-1, *[1] * (velocities[0].dim() - 1))
        velocity = torch.where(spread, *velocities)
    return replace(
        one,
        pre=torch.where(matrix, one.pre, other.pre),
        velocity=velocity,
        post=torch.where(matrix, one.post, other.post),
    )


def _as_velocity(transform: SpatialTransform, like: SpatialTransform) -> torch.Tensor:
    """Its velocity; zero on the other's grid where it has none."""
    if transform.velocity is not None:
        return transform.velocity
    if like.velocity is None:
        raise ValueError("neither transform has a velocity")
    return torch.zeros_like(like.velocity)


def _freeze(transform: SpatialTransform, still: torch.Tensor) -> SpatialTransform:
    """Replace the maps at `still` by the identity."""
    eye = identity_affine(len(still), len(transform.shape))
    where = still[:, None, None]
    velocity = transform.velocity
    if velocity is not None:
        velocity = torch.where(still.reshape(-1, *[1] * (velocity.dim() - 1)), 0.0, velocity)
    return replace(
        transform,
        pre=torch.where(where, eye, transform.pre),
        velocity=velocity,
        post=torch.where(where, eye, transform.post),
    )
