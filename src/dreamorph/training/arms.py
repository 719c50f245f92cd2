"""The arms of the comparison: each is the one before it and one thing more."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch

from dreamorph.dreaming import (
    AffineWarpConfig,
    AffineWarps,
    Dreamer,
    DreamWarps,
    ElasticWarpConfig,
    ElasticWarps,
    IdentityWarps,
    LearnedWarps,
    Recipe,
    WarpSampler,
)
from dreamorph.dreaming.dreamer import VERSION
from dreamorph.dreaming.strength import Strength, strength_of
from dreamorph.errors import TrainingError
from dreamorph.fingerprint import fingerprint
from dreamorph.prior import DeformationPrior
from dreamorph.training.config import ArmName
from dreamorph.training.fit import Arm
from dreamorph.training.mixing import MixedWarps

#: Dreams that no gate has seen, by whose strength that of other warps goes where none passed it.
UNJUDGED = 32


@dataclass(frozen=True)
class Material:
    """What the samples of all arms are made of.

    Attributes:
        shape, spacing_mm: the common grid.
        cases, classes: names of the training volumes, in the order of their rows, and the class of
            each, None where unknown.
        prior: what the dreams are drawn from.
        recipes: the dreams that passed the gate.
        affine: random affine maps, in all arms but `none`.
        elastic: random warps; those in learned directions are as strong and as rough.
        fraction: share of the samples of `elastic`, `dream` and `learned` that are warped.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    cases: tuple[str, ...]
    classes: tuple[str | None, ...]
    prior: DeformationPrior
    recipes: tuple[Recipe, ...]
    affine: AffineWarpConfig
    elastic: ElasticWarpConfig
    fraction: float

    def arm(self, name: ArmName) -> Arm:
        """One arm.

        Raises:
            TrainingError: it shows dreams, and none passed the gate.
        """
        if name == "dream" and not self.recipes:
            raise TrainingError("no accepted dream to train on: see the reasons in the dream table")
        warps = self._warps(name)
        known = fingerprint(name, *self._parts(name))
        return Arm(name, warps, intensity=name != "none", fingerprint=known)

    def with_energy(self, energy: float) -> "Material":
        """The same, its random warps of another strength; what was made of the dreams is shared."""
        other = replace(self, elastic=self.elastic.model_copy(update={"energy": energy}))
        other.__dict__["strength"] = self.strength
        if self.recipes:
            other.__dict__["_dreams"] = self._dreams
        return other

    @cached_property
    def strength(self) -> Strength:
        """How strong and how rough the dreams are; of unjudged ones where none was accepted."""
        rows = {case: row for row, case in enumerate(self.prior.members)}
        return strength_of(
            (
                self.prior.fields[rows[recipe.source]]
                - self.prior.draw(recipe.seed, recipe.cls, recipe.scale).field
                for recipe in self.recipes or self._unjudged
            ),
            self.prior.extent_mm,
        )

    @property
    def _unjudged(self) -> list[Recipe]:
        members = [row for row, name in enumerate(self.prior.members) if name in self.cases]
        return Dreamer(self.prior).recipes(UNJUDGED, members, torch.Generator().manual_seed(0))

    @cached_property
    def _dreams(self) -> WarpSampler:
        return DreamWarps(
            Dreamer(self.prior), self.recipes, self.cases, self.classes, self.shape,
            otherwise=self._own_shape(self.strength.energy, None),
        )  # fmt: skip

    @cached_property
    def _random(self) -> WarpSampler:
        coarse: Sequence[int] = self.prior.fields.shape[2:]
        return ElasticWarps(self.shape, self.spacing_mm, coarse, self._of_warps)

    @cached_property
    def _learned(self) -> WarpSampler:
        asked = self._of_warps
        return self._own_shape(asked.energy, asked.sigma_mm if self.elastic.shaped else None)

    @property
    def _of_warps(self) -> Strength:
        return self.elastic.strength(self.strength)

    def _own_shape(self, energy: float, sigma_mm: Sequence[float] | None) -> WarpSampler:
        return LearnedWarps(
            self.prior, self.cases, self.classes, self.shape, self.spacing_mm, energy, sigma_mm
        )

    def _warps(self, name: ArmName) -> WarpSampler:
        plain = IdentityWarps(self.shape, self.spacing_mm)
        if name == "none":
            return plain
        if name == "classic":
            return AffineWarps(plain, self.affine)
        shown = getattr(self, {"dream": "_dreams", "elastic": "_random"}.get(name, "_learned"))
        return AffineWarps(MixedWarps(shown, plain, self.fraction), self.affine)

    def _parts(self, name: ArmName) -> list[Any]:
        """What shapes an arm's samples."""
        if name == "none":
            return []
        parts: list[Any] = [self.affine, list(self.shape), list(self.spacing_mm)]
        if name == "classic":
            return parts
        parts.append(self.fraction)
        rows = [list(self.cases), list(self.classes)]
        if name == "elastic":
            coarse = list(self.prior.fields.shape[2:])
            parts += [asdict(self._of_warps), coarse]
        if name == "learned":
            parts += [
                VERSION,
                self.prior.fingerprint,
                rows,
                asdict(self._of_warps),
                self.elastic.shaped,
            ]
        if name == "dream":
            recipes = [[r.dream, r.source, r.scale] for r in self.recipes]
            parts += [VERSION, self.prior.fingerprint, rows, recipes]
        return parts
