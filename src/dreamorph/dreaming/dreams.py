"""Records of dreams: what they are and where they came from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch

from dreamorph.spatial.transform import SpatialTransform

COLUMNS = ["dream", "source", "source_subject", "class", "seed", "prior", "scale", "coefficients"]


@dataclass(frozen=True)
class Recipe:
    """Provenance of one dream: all that is needed to make it again.

    Attributes:
        dream: name of the dream.
        source: case it is a warp of.
        source_subject: whom that case shows.
        cls: class it was drawn from, None where there are none.
        seed: of the draw from the prior.
        prior: fingerprint of the prior.
        scale: factor on the deviation from the class's mean.
        coefficients: standard scores along the modes of the class.
    """

    dream: str
    source: str
    source_subject: str
    cls: str | None
    seed: int
    prior: str
    scale: float
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class Dreams:
    """A batch of dreams on the common grid.

    Attributes:
        images: `(n, 1, *shape)` float32, 0 outside `masks`, whatever 0 means in the sources.
        labels: `(n, 1, *shape)` uint8; of the sources' type where they do not fit in it. 0 outside
            `masks`, also where the sources have no label 0.
        masks: `(n, 1, *shape)` bool, where a dream shows something of its source.
        transforms: maps from dream to source points.
        recipes: provenance of each.
        source_index: `(n,)` rows of the volumes the dreams were made from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    transforms: SpatialTransform
    recipes: tuple[Recipe, ...]
    source_index: torch.Tensor

    def __len__(self) -> int:
        return len(self.recipes)

    def select(self, index: Sequence[int]) -> "Dreams":
        """The dreams at the given positions."""
        rows = list(index)
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            masks=self.masks[rows],
            transforms=self.transforms[rows],
            recipes=tuple(self.recipes[k] for k in rows),
            source_index=self.source_index[rows],
        )


def recipes_to_table(recipes: Sequence[Recipe]) -> pd.DataFrame:
    """One row a dream; coefficients joined by spaces."""
    rows: list[dict[str, Any]] = []
    for recipe in recipes:
        row = asdict(recipe) | {"class": recipe.cls}
        del row["cls"]
        row["coefficients"] = " ".join(repr(c) for c in recipe.coefficients)
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def recipes_from_table(table: pd.DataFrame) -> list[Recipe]:
    """The inverse of `recipes_to_table`, also after a way through CSV."""
    return [
        Recipe(
            dream=str(row["dream"]),
            source=str(row["source"]),
            source_subject=str(row["source_subject"]),
            cls=None if pd.isna(row["class"]) else str(row["class"]),
            seed=int(row["seed"]),
            prior=str(row["prior"]),
            scale=float(row["scale"]),
            coefficients=tuple(float(c) for c in str(row["coefficients"]).split()),
        )
        for row in table.to_dict("records")
    ]
