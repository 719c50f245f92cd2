"""A small world whose truth is known: subjects are one phantom under smooth random maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from dreamorph.hallucination import (
    AuditConfig,
    DreamEvidence,
    NetEvidence,
    Reals,
    lineage_rows,
    pair_jacobians,
)
from dreamorph.spatial import SpatialTransform, gaussian_smooth, identity_affine, points_like

SHAPE = (24, 28, 24)
SPACING = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class FakeRecipe:
    dream: str
    source: str
    source_subject: str
    cls: str | None = None
    seed: int = 0
    prior: str = "prior0"
    scale: float = 1.0
    coefficients: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class FakeDreams:
    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    transforms: SpatialTransform
    recipes: tuple[FakeRecipe, ...]
    source_index: torch.Tensor

    def select(self, part: slice) -> "FakeDreams":
        return FakeDreams(
            self.images[part],
            self.labels[part],
            self.masks[part],
            self.transforms[part],
            self.recipes[part],
            self.source_index[part],
        )


def velocities(n: int, size_mm: float, generator: torch.Generator) -> torch.Tensor:
    """Smooth random velocities on a quarter grid, `size_mm` RMS."""
    coarse = [max(4, s // 4) for s in SHAPE]
    field = gaussian_smooth(torch.randn(n, 3, *coarse, generator=generator), 1.2)
    return field * size_mm / field.square().mean().sqrt()


def warps(velocity: torch.Tensor) -> SpatialTransform:
    eye = identity_affine(len(velocity), 3)
    return SpatialTransform(eye, velocity, eye, SHAPE, SPACING)


def phantom() -> tuple[torch.Tensor, torch.Tensor]:
    """Two touching balls, labels 1 and 2, on a shaded background."""
    x, y, z = points_like(SHAPE, SPACING)[0]
    first = (x**2 + (y + 4) ** 2 + z**2) < 25
    second = (x**2 + (y - 4) ** 2 + z**2) < 20
    labels = torch.where(first, 1, torch.where(second, 2, 0)).to(torch.uint8)
    image = 0.3 * torch.sin(x / 3) + 0.02 * y + first * 1.0 + (second & ~first) * 0.7
    return gaussian_smooth(image[None, None], 0.7), labels[None, None]


def make_reals(subjects: int, fields: torch.Tensor, generator: torch.Generator) -> Reals:
    image, labels = phantom()
    maps = warps(fields)
    images, warped = maps.warp_with_labels(
        image.expand(subjects, -1, -1, -1, -1), labels.expand(subjects, -1, -1, -1, -1), 2
    )
    contrast = 1 + 0.1 * torch.randn(subjects, 1, 1, 1, 1, generator=generator)
    grain = 0.1 * torch.randn(images.shape, generator=generator)
    names = [f"s{i:02d}" for i in range(subjects)]
    masks = torch.ones(images.shape, dtype=torch.bool)
    masks[..., :2] = False
    images = (images * contrast + grain) * masks
    return Reals(
        images, warped * masks, masks, [f"case_{n}" for n in names], names,
        [None] * subjects, SPACING, 2,
    )  # fmt: skip


def make_dreams(
    reals: Reals, source_index: Sequence[int], maps: SpatialTransform, prior: str = "prior0"
) -> FakeDreams:
    rows = list(source_index)
    images, labels = maps.warp_with_labels(
        reals.images[rows], reals.labels[rows], max(1, reals.n_labels)
    )
    masks = maps.warp(reals.masks[rows].float(), padding="zeros") > 0.5
    recipes = tuple(
        FakeRecipe(f"dream_{k}", reals.cases[row], reals.subjects[row], seed=k, prior=prior)
        for k, row in enumerate(rows)
    )
    return FakeDreams(images * masks, labels * masks, masks, maps, recipes, torch.tensor(rows))


@dataclass(frozen=True)
class World:
    """Honest evidence, and what is needed to spoil it."""

    evidence: DreamEvidence
    fields: torch.Tensor
    config: AuditConfig

    def with_dreams(self, dreams: FakeDreams) -> DreamEvidence:
        return replace(self.evidence, dreams=dreams)

    def few(self, n: int = 8) -> "World":
        """The same world with its first dreams only, for checks that look at one at a time."""
        return replace(self, evidence=self.with_dreams(self.evidence.dreams.select(slice(n))))

    def dream(self, source_index: Sequence[int], targets: torch.Tensor) -> FakeDreams:
        """Dreams of sources moved to target fields `(n, 3, ...)`."""
        maps = warps(targets - self.fields[list(source_index)])
        return make_dreams(self.evidence.reals, source_index, maps)


def make_world(subjects: int = 14, each: int = 5, size_mm: float = 1.0, seed: int = 0) -> World:
    generator = torch.Generator().manual_seed(seed)
    fields = velocities(subjects + 6, size_mm, generator)
    fields, test_fields = fields[:subjects], fields[subjects:]
    reals = make_reals(subjects, fields, generator)
    tests = make_reals(6, test_fields, generator)
    pairs = [(i, j) for i in range(subjects) for j in range(subjects) if i != j]
    first, second = ([p[k] for p in pairs] for k in (0, 1))
    table = pair_jacobians(
        warps(fields[second] - fields[first]),
        reals.masks[first],
        [reals.subjects[i] for i in first],
        [reals.subjects[j] for j in second],
    )
    rows = [
        lineage_rows(role, reals.cases, reals.subjects, reals.images, reals.masks)
        for role in ("registration", "prior", "training")
    ]
    names = [f"t{i:02d}" for i in range(6)]
    rows.append(
        lineage_rows("test", [f"case_{n}" for n in names], names, tests.images, tests.masks)
    )
    sources = [i for i in range(subjects) for _ in range(each)]
    maps = warps(velocities(len(sources), size_mm, generator) - fields[sources])
    evidence = DreamEvidence(
        reals,
        make_dreams(reals, sources, maps),
        table,
        pd.concat(rows, ignore_index=True),
        "prior0",
    )
    return World(evidence, fields, AuditConfig(two_sample_permutations=99))


def with_islands(world: World, size: Sequence[int], label: int = 1) -> World:
    """The same world, but the label has an island of so many voxels in a corner of each source."""
    evidence, labels = world.evidence, world.evidence.reals.labels.clone()
    labels[:, :, 2 : 2 + size[0], 2 : 2 + size[1], 4 : 4 + size[2]] = label
    reals = replace(evidence.reals, labels=labels)
    dreams = make_dreams(
        reals, evidence.dreams.source_index.tolist(), evidence.dreams.transforms
    )  # fmt: skip
    return replace(world, evidence=replace(evidence, reals=reals, dreams=dreams))


def without_label(world: World, label: int, subjects: int) -> World:
    """The same honest world, but the first subjects and their dreams have never had a label."""
    evidence = world.evidence
    labels, dreamt = evidence.reals.labels.clone(), evidence.dreams.labels.clone()
    theirs = evidence.dreams.source_index < subjects
    labels[:subjects] = labels[:subjects].where(labels[:subjects] != label, 0)
    dreamt[theirs] = dreamt[theirs].where(dreamt[theirs] != label, 0)
    reals, dreams = replace(evidence.reals, labels=labels), replace(evidence.dreams, labels=dreamt)
    return replace(world, evidence=replace(evidence, reals=reals, dreams=dreams))


def case_table(scores: dict[str, Any], subjects: int = 10, seeds: int = 2) -> pd.DataFrame:
    """Results per arm; each arm's score is a number per subject, or an array `(subjects,)`."""
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 0.03, subjects)
    rows = []
    for arm, score in scores.items():
        means = np.broadcast_to(np.asarray(score, float), (subjects,)) + difficulty
        for subject in range(subjects):
            for side in "LR":
                for label in (1, 2):
                    for seed in range(seeds):
                        noise = generator.normal(0, 0.005)
                        rows.append(
                            (arm, seed, f"{subject}{side}", f"t{subject}", label,
                             means[subject] + noise)
                        )  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "seed", "case", "subject", "label", "dice"])


def net_evidence(
    dream: Any = 0.86, elastic: Any = 0.84, plain: Any = 0.80, subjects: int = 10, **others: Any
) -> NetEvidence:
    arms = {"dream": dream, "elastic": elastic, "classic": 0.83, **others, "plain": plain}
    table = case_table(arms, subjects)
    baseline = table[(table["arm"] == "plain") & (table["seed"] == 0)]
    return NetEvidence(
        cases=table[table["arm"] != "plain"],
        baseline=baseline[["case", "subject", "label", "dice"]],
        removal=None,
        n_labels=2,
    )
