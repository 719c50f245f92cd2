"""Which pairs of a cohort are registered."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from pydantic import Field

from dreamorph.config import Config
from dreamorph.errors import CohortError


class PairingConfig(Config):
    """Choice of pairs.

    Attributes:
        labelled: largest number of pairs between labelled volumes; all pairs of a class where it
            allows, else a random choice that leaves none alone.
        per_unlabelled: labelled volumes that each unlabelled one is registered with.
        seed: of the choice.
    """

    labelled: int = Field(default=1225, ge=1)
    per_unlabelled: int = Field(default=3, ge=1)
    seed: int = 0


def choose_pairs(
    labelled: Sequence[int],
    unlabelled: Sequence[int],
    classes: Sequence[str | None],
    config: PairingConfig,
) -> pd.DataFrame:
    """Choose pairs among the rows of a cohort.

    Labelled volumes are paired within their class; one pair per two classes joins the classes, so
    that all maps share one space. An unlabelled volume is paired with labelled ones of its class,
    or of any where its class is unknown.

    Args:
        labelled, unlabelled: rows of the cohort.
        classes: class of every row, None where unknown.
        config: budgets.

    Returns:
        Columns fixed, moving, kind (`labelled` or `unlabelled`), sorted and without repeats.

    Raises:
        CohortError: no labelled volume, or one and no other.
    """
    if not labelled or len(labelled) + len(unlabelled) < 2:
        raise CohortError(
            "registration needs a labelled training volume and another one, labelled or not, got"
            f" {len(labelled)} labelled and {len(unlabelled)} unlabelled"
        )
    generator = np.random.default_rng(config.seed)
    groups: dict[str | None, list[int]] = {}
    for row in labelled:
        groups.setdefault(classes[row], []).append(row)
    within = [(i, j) for group in groups.values() for i in group for j in group if i < j]
    pairs = {*_spread(within, config.labelled, generator), *_bridges(list(groups.values()))}
    rows = [(i, j, "labelled") for i, j in pairs]
    for row in unlabelled:
        known = classes[row] is not None and classes[row] in groups
        near = groups[classes[row]] if known else list(labelled)
        chosen = generator.permutation(near)[: config.per_unlabelled]
        rows += [(int(i), row, "unlabelled") for i in chosen]
    return pd.DataFrame(sorted(rows), columns=["fixed", "moving", "kind"])


def _spread(
    pairs: list[tuple[int, int]], budget: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """All pairs, or about `budget` of them that keep each group in one piece."""
    if len(pairs) <= budget:
        return pairs
    order = [pairs[k] for k in generator.permutation(len(pairs))]
    parent = {row: row for pair in pairs for row in pair}

    def root(row: int) -> int:
        while parent[row] != row:
            row = parent[row]
        return row

    tree = []
    for i, j in order:
        if root(i) != root(j):
            parent[root(i)] = root(j)
            tree.append((i, j))
    kept = set(tree)
    rest = [pair for pair in order if pair not in kept]
    return tree + rest[: max(0, budget - len(tree))]


def _bridges(groups: list[list[int]]) -> list[tuple[int, int]]:
    """Two pairs between neighbouring groups, so that one bad registration does not part them."""
    pairs = []
    for first, second in pairwise(groups):
        for k in range(2):
            i, j = first[k % len(first)], second[k % len(second)]
            pairs.append((min(i, j), max(i, j)))
    return pairs
