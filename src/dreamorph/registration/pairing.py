"""Which pairs of a cohort are registered."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from pydantic import Field

from dreamorph.config import Config
from dreamorph.errors import CohortError

#: Where not all pairs can be registered, rings through all volumes of a class that are at least.
RINGS = 2


class PairingConfig(Config):
    """Choice of pairs.

    Attributes:
        labelled: largest number of pairs between labelled volumes; all pairs of a class where it
            allows, else each volume with its neighbours in two random rings, whatever number that
            takes, and some others at random.
        per_unlabelled: labelled volumes that each unlabelled one is registered with.
        seed: of the choice.
    """

    labelled: int = Field(default=1225, ge=1)
    per_unlabelled: int = Field(default=2, ge=1)
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
    parts = list(groups.values())
    pairs = {*_spread(parts, config.labelled, generator), *_bridges(parts)}
    rows = [(i, j, "labelled") for i, j in pairs]
    for row in unlabelled:
        known = classes[row] is not None and classes[row] in groups
        near = groups[classes[row]] if known else list(labelled)
        chosen = generator.permutation(near)[: config.per_unlabelled]
        rows += [(int(i), row, "unlabelled") for i in chosen]
    return pd.DataFrame(sorted(rows), columns=["fixed", "moving", "kind"])


def _spread(
    groups: list[list[int]], budget: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """All pairs within groups, or `budget` of them, more if needed to join each group closely.

    Each group is joined by rings in random order, so that all volumes have partners enough and none
    hangs on a single pair or at the end of a chain, along which errors would add up. Pairs drawn at
    random take what is left of the budget.
    """
    within = [(i, j) for group in groups for i in group for j in group if i < j]
    if len(within) <= budget:
        return within
    joined: set[tuple[int, int]] = set()
    for group in groups:
        for _ in range(RINGS):
            ring = [group[k] for k in generator.permutation(len(group))]
            joined |= {(min(i, j), max(i, j)) for i, j in pairwise([*ring, ring[0]]) if i != j}
    order = [within[k] for k in generator.permutation(len(within))]
    rest = [pair for pair in order if pair not in joined]
    return [*joined, *rest[: max(0, budget - len(joined))]]


def _bridges(groups: list[list[int]]) -> list[tuple[int, int]]:
    """Two pairs between neighbouring groups, so that one bad registration does not part them."""
    pairs = []
    for first, second in pairwise(groups):
        for k in range(2):
            i, j = first[k % len(first)], second[k % len(second)]
            pairs.append((min(i, j), max(i, j)))
    return pairs
