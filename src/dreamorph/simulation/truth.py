"""What is known of a simulated cohort and must stay unknown to whatever learns from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from dreamorph.errors import CohortError
from dreamorph.spatial import SpatialTransform, extent

_STRINGS = ("cases", "classes")
_GRID = ("shape", "spacing_mm")
_TENSORS = (
    "velocities",
    "affines",
    "modes",
    "mode_sds_mm",
    "enlargement",
    "coefficients",
    "enlargements_mm",
)


@dataclass(frozen=True)
class Truth:
    """True maps `phi = affine . exp(velocity)` from the shared anatomy to each volume.

    Points are millimetres from the centre of the simulated grid on the side of the anatomy, and
    from the centre of the case's own volume on its side, whatever part of the grid it shows.

    Attributes:
        cases, classes: N names each.
        shape, spacing_mm: the grid whose extent the velocities cover.
        velocities: `(N, 3, d, h, w)` float32 in mm.
        affines: `(N, 4, 4)` float64.
        modes: `(K, 3, d, h, w)`, see `ShapePrior`.
        mode_sds_mm: `(K,)`.
        enlargement: `(3, d, h, w)`.
        coefficients: `(N, K)` of the modes.
        enlargements_mm: `(N,)` of the enlargement.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    velocities: torch.Tensor
    affines: torch.Tensor
    modes: torch.Tensor
    mode_sds_mm: torch.Tensor
    enlargement: torch.Tensor
    coefficients: torch.Tensor
    enlargements_mm: torch.Tensor

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Edge lengths of the grid that the velocities cover."""
        return extent(self.shape, self.spacing_mm)

    @property
    def directions(self) -> torch.Tensor:
        """The modes and, last, the enlargement, `(K + 1, 3, d, h, w)`."""
        return torch.cat([self.modes, self.enlargement[None]])

    def rows(self, cases: Sequence[str]) -> list[int]:
        """Positions of cases by name. Raises CohortError for a name that is not simulated."""
        position = {case: index for index, case in enumerate(self.cases)}
        unknown = [case for case in cases if case not in position]
        if unknown:
            raise CohortError(
                f"case {unknown[0]} is not among the {len(position)} simulated cases; "
                "judge the recovery only of the cohort that this truth was written with"
            )
        return [position[case] for case in cases]

    def transforms(self, cases: Sequence[str]) -> SpatialTransform:
        """The maps from the shared anatomy to the given cases."""
        rows = self.rows(cases)
        eye = torch.eye(4, dtype=torch.float64).expand(len(rows), 4, 4).clone()
        return SpatialTransform(
            eye, self.velocities[rows], self.affines[rows], self.shape, self.spacing_mm
        )

    def pair_points(
        self, fixed: Sequence[str], moving: Sequence[str], points: torch.Tensor
    ) -> torch.Tensor:
        """Where points `(1 or B, 3, *any)` of the fixed volumes lie in the moving ones."""
        inner = self.transforms(fixed).inverse().map(points)
        return self.transforms(moving).map(inner)

    def save(self, path: Path) -> None:
        """Write one npz file."""
        arrays = {name: getattr(self, name).numpy() for name in _TENSORS}
        arrays |= {name: np.array(getattr(self, name)) for name in (*_STRINGS, *_GRID)}
        with path.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Truth":
        """Read what `save` wrote. Raises CohortError where it is missing or damaged."""
        try:
            # a handle of our own is closed even where the archive turns out to be damaged
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                values: dict[str, Any] = {name: torch.from_numpy(file[name]) for name in _TENSORS}
                values |= {name: tuple(file[name].tolist()) for name in (*_STRINGS, *_GRID)}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise CohortError(
                f"expected the truth of a simulation in {path}, which cannot be read "
                f"({type(error).__name__}); simulate again"
            ) from error
        return cls(**values)
