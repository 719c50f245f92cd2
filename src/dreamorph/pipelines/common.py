"""What several steps ask of a cohort."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import torch
from tqdm import tqdm

from dreamorph.dreaming import Dreamer, Dreams, Recipe
from dreamorph.hallucination import Reals
from dreamorph.prior import DeformationPrior
from dreamorph.volumes.cohort import Cohort

Items = Mapping[str, Any]


def task_of(cohort: Cohort) -> Literal["segmentation", "classification"]:
    """What networks learn on this cohort: label maps where there are any, else classes."""
    return "segmentation" if cohort.n_labels else "classification"


def classes_of(table: pd.DataFrame) -> list[str | None]:
    """Class of every row, None where unknown."""
    return [None if pd.isna(c) else str(c) for c in table["class"]]


def trusted(pair_table: pd.DataFrame) -> pd.DataFrame:
    """The pairs that were not set aside."""
    reason = pair_table["set_aside"]
    return pair_table[reason.isna() | (reason == "")]


def velocities_of(pairs: Items, keys: Sequence[str]) -> torch.Tensor:
    """Velocities `(P, ndim, *coarse)` of pairs, read one after the other into their place."""
    first = pairs[keys[0]]["velocity"]
    velocities = first.new_empty(len(keys), *first.shape)
    for row, key in enumerate(keys):
        velocities[row] = pairs[key]["velocity"]
    return velocities


def sources_of(cohort: Cohort) -> Reals:
    """The labelled training volumes: dreams are warps of those that the prior knows.

    Binary shapes are their own labels.
    """
    part = cohort.select(cohort.indices("train"))
    is_shape = part.modality == "shape" and not part.n_labels
    return Reals(
        images=part.images,
        labels=(part.images > 0.5).to(torch.uint8) if is_shape else part.labels,
        masks=part.masks,
        cases=part.cases,
        subjects=[str(s) for s in part.table["subject"]],
        classes=classes_of(part.table),
        spacing_mm=part.spacing_mm,
        n_labels=1 if is_shape else part.n_labels,
    )


def replay(prior: DeformationPrior, sources: Reals, recipes: Sequence[Recipe]) -> Dreams:
    """The dreams of some recipes; their `source_index` counts all sources, dreamed or not."""
    rows = torch.tensor([k for k, case in enumerate(sources.cases) if case in prior.members])
    dreams = Dreamer(prior).replay(
        sources.images[rows],
        sources.labels[rows],
        recipes,
        [prior.members.index(sources.cases[row]) for row in rows],
        sources.masks[rows],
    )
    return dataclasses.replace(dreams, source_index=rows[dreams.source_index])


def progress(
    found: Iterator[dict[str, Any]], wanted: Sequence[str], done: Items, what: str
) -> Iterator[dict[str, Any]]:
    """Pass results on, with a progress bar over those that were missing."""
    missing = len(set(wanted) - set(done))
    yield from tqdm(found, total=missing, desc=what, disable=missing == 0)
