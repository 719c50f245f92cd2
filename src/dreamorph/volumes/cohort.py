"""The preprocessed cohort: everything the later steps see of the scans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dreamorph.errors import CohortError
from dreamorph.fingerprint import fingerprint

TABLE_COLUMNS = ("case", "subject", "class", "split", "labelled", "fingerprint")


@dataclass(frozen=True, eq=False)
class Cohort:
    """Preprocessed volumes on one common grid, in the order of the table.

    table: RangeIndex; columns case, subject, class (str or None), split ('train', 'unlabelled' or
        'test'), labelled (bool), fingerprint (of image, label and mask). No paths.
    images: (N, 1, D, H, W) float32, normalised, 0 outside the mask.
    labels: (N, 1, D, H, W) uint8, all 0 where there is no label map; those of the split
        'unlabelled' are withheld, and so are their classes.
    masks: (N, 1, D, H, W) bool, True inside the scanned box, False in padding.
    affines: (N, 4, 4) float64, voxel of the common grid -> world RAS mm of that case.
    spacing_mm: spacing along R, A, S.
    label_names: label 1..K -> name; {} for classification.
    class_names: sorted; [] where there are no classes.
    modality: 'MR', 'CT' or 'shape' (binary).

    `labelled` says that the case's target is known to the run: its label map or, in a cohort
    without label maps, its class. Raises CohortError if the parts do not fit together.
    """

    table: pd.DataFrame
    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    affines: np.ndarray
    spacing_mm: tuple[float, float, float]
    label_names: dict[int, str]
    class_names: list[str]
    modality: str

    def __post_init__(self) -> None:
        """Refuse parts of different sizes or types."""
        count = len(self.table)
        missing = [column for column in TABLE_COLUMNS if column not in self.table.columns]
        if missing:
            raise CohortError(f"expected the table column {missing[0]!r} in a cohort")
        expected = (count, 1, *self.images.shape[2:])
        for name, dtype in (
            ("images", torch.float32), ("labels", torch.uint8), ("masks", torch.bool),
        ):  # fmt: skip
            tensor = getattr(self, name)
            if tuple(tensor.shape) != expected or tensor.dtype != dtype:
                raise CohortError(
                    f"cohort {name}: expected {expected} {dtype}, got {tuple(tensor.shape)}"
                    f" {tensor.dtype}"
                )
        if self.affines.shape != (count, 4, 4) or self.affines.dtype != np.float64:
            raise CohortError(
                f"cohort affines: expected ({count}, 4, 4) float64, got {self.affines.shape}"
                f" {self.affines.dtype}"
            )

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.table)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sides (D, H, W) of the common grid."""
        sides = self.images.shape[2:]
        return int(sides[0]), int(sides[1]), int(sides[2])

    @property
    def n_labels(self) -> int:
        """Highest label; 0 for a cohort without label maps."""
        return max(self.label_names, default=0)

    @property
    def cases(self) -> list[str]:
        """Names of all cases in order."""
        return [str(case) for case in self.table["case"]]

    def indices(self, split: str) -> list[int]:
        """Rows of one split ('train', 'unlabelled', 'test'), ascending."""
        return [int(i) for i in np.flatnonzero((self.table["split"] == split).to_numpy())]

    def index_of(self, case: str) -> int:
        """Row of a case. Raises CohortError if there is none of that name."""
        try:
            return self.cases.index(case)
        except ValueError:
            raise CohortError(f"the cohort of {len(self)} cases has no case {case!r}") from None

    def select(self, indices: Sequence[int]) -> "Cohort":
        """A cohort of these rows in this order."""
        rows = list(indices)
        return Cohort(
            table=self.table.iloc[rows].reset_index(drop=True),
            images=self.images[rows],
            labels=self.labels[rows],
            masks=self.masks[rows],
            affines=self.affines[rows],
            spacing_mm=self.spacing_mm,
            label_names=dict(self.label_names),
            class_names=list(self.class_names),
            modality=self.modality,
        )

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any voxel, name, split or geometry."""
        rows = [
            [None if pd.isna(value) else value for value in row]
            for row in self.table[list(TABLE_COLUMNS)].to_numpy(dtype=object).tolist()
        ]
        names = {str(key): name for key, name in self.label_names.items()}
        return fingerprint(rows, self.affines, list(self.spacing_mm), names, self.modality)
