"""The pairs of volumes on which registration is compared."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from dreamorph.simulation import LABEL_NAMES, SimulationConfig, Truth, simulate
from dreamorph.spatial import SpatialTransform
from dreamorph.volumes.config import CohortConfig, SplitConfig, SubjectRule
from dreamorph.volumes.ingest import load_cohort

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "hippocampus": "Task04_Hippocampus",
    "ct": "Dataset040_STS_CT",
}
#: Labels that correspond between subjects; a tumour does not.
LABELS = {
    "hippocampus": (1, 2),
    "ct": (2,),
    "simulated": tuple(LABEL_NAMES),
    "contrasts": tuple(LABEL_NAMES),
}
#: Pairs set apart for choosing parameters. No figure is reported on them.
DEVELOPMENT_PAIRS = {"hippocampus": 10, "ct": 4, "simulated": 4, "contrasts": 4}
#: Pairs of another set, their moving volumes turned and shifted: how far, and the margin that keeps
#: them whole.
TURNED = {"turned": "hippocampus", "turned_ct": "ct", "turned_simulated": "simulated"}
TURN_DEGREES, SHIFT_MM, MARGIN_VOXELS = 30.0, 20.0, 12
SIMULATED = SimulationConfig(n_labelled=40, n_unlabelled=0, n_test=0, seed=7)


@dataclass(frozen=True)
class Side:
    """One volume of every pair, on the common grid.

    Attributes:
        images: `(B, 1, *shape)` float32, normalised.
        labels: `(B, 1, *shape)` uint8.
        masks: `(B, 1, *shape)` bool, the scanned box.
        cases: B names.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    cases: tuple[str, ...]

    def __getitem__(self, rows: list[int]) -> "Side":
        """The volumes of these pairs."""
        cases = tuple(self.cases[row] for row in rows)
        return Side(self.images[rows], self.labels[rows], self.masks[rows], cases)

    def box(self, row: int) -> tuple[slice, ...]:
        """Where the scanned box of a pair lies on the grid."""
        where = np.nonzero(self.masks[row, 0].numpy())
        return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in where)


@dataclass(frozen=True)
class Pairing:
    """Disjoint pairs of one data set.

    Attributes:
        name: of the data set.
        fixed, moving: the volumes.
        spacing_mm: of the common grid.
        labels: which labels count.
        truth: the true maps where the patients are simulated.
    """

    name: str
    fixed: Side
    moving: Side
    spacing_mm: tuple[float, ...]
    labels: tuple[int, ...]
    truth: Truth | None = None

    def __len__(self) -> int:
        return len(self.fixed.cases)

    def __getitem__(self, rows: list[int]) -> "Pairing":
        """Some of the pairs."""
        return Pairing(
            self.name, self.fixed[rows], self.moving[rows], self.spacing_mm, self.labels, self.truth
        )


def load_pairs(name: str, count: int, development: bool = False) -> Pairing:
    """Pairs of different subjects; no subject is in two pairs, nor in both parts.

    The first `DEVELOPMENT_PAIRS` of a fixed shuffle are for choosing parameters, the others for
    reporting. Of a subject with two volumes the first one counts.
    """
    of = TURNED.get(name, name)
    everyone, spacing_mm, truth = _real(of) if of in FOLDERS else _simulated()
    order = np.random.default_rng(2026).permutation(len(everyone.cases)).tolist()
    apart = 2 * DEVELOPMENT_PAIRS[of]
    order = order[:apart] if development else order[apart:]
    order = order[: 2 * min(count, len(order) // 2)]
    fixed, moving = everyone[order[::2]], everyone[order[1::2]]
    if name == "contrasts":
        fixed = replace(fixed, images=other_contrast(fixed.images, fixed.masks))
    if name in TURNED:
        fixed, moving = widened(fixed), turned(widened(moving), spacing_mm)
        truth = None  # that of the volumes before they were turned
    return Pairing(name, fixed, moving, spacing_mm, LABELS[of], truth)


def widened(side: Side) -> Side:
    """The volumes with a margin of padding on all sides."""
    width = [MARGIN_VOXELS] * 6
    parts = (side.images, side.labels, side.masks)
    images, labels, masks = (torch.nn.functional.pad(part, width) for part in parts)
    return Side(images, labels, masks, side.cases)


def turned(side: Side, spacing_mm: tuple[float, ...]) -> Side:
    """Each volume turned about an axis and shifted in a direction of its own."""
    generator = np.random.default_rng(30)
    shape = tuple(side.images.shape[2:])
    maps = torch.eye(4, dtype=torch.float64).repeat(len(side.cases), 1, 1)
    for one in maps:
        axis, direction = (v / np.linalg.norm(v) for v in generator.normal(size=(2, 3)))
        turn = Rotation.from_rotvec(np.radians(TURN_DEGREES) * axis).as_matrix()
        one[:3, :3] = torch.from_numpy(turn)
        one[:3, 3] = torch.from_numpy(SHIFT_MM * direction)
    transform = SpatialTransform.identity(len(maps), shape, spacing_mm).before(maps)
    images, labels = transform.warp_with_labels(side.images, side.labels, int(side.labels.max()))
    masks = transform.warp(side.masks.float(), padding="zeros") > 0.5
    return Side(images * masks, labels * masks, masks, side.cases)


def other_contrast(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Bright is dark and neither extreme is darkest, as between kinds of scans; air stays dark."""
    scale = images.flatten(1).quantile(0.99, dim=1).reshape(-1, 1, 1, 1, 1)
    values = (images / scale).clamp(0, 1.2)
    return masks * values.sqrt() * (1.3 - values)


def real_data() -> Path:
    """Folder of the real data sets, from the environment or beside the project."""
    named = os.environ.get("DREAMORPH_REAL_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def _real(name: str) -> tuple[Side, tuple[float, ...], None]:
    rules = {
        "hippocampus": SubjectRule(regex=r"hippocampus_(\d+)", cases_per_subject=2),
        "ct": SubjectRule(regex=r"(STS_\d+)"),
    }
    config = CohortConfig(
        path=real_data() / FOLDERS[name],
        subject=rules[name],
        modality="CT" if name == "ct" else "MR",
    )
    cohort = load_cohort(config, SplitConfig(unlabelled_subjects=0))
    rows = cohort.table.drop_duplicates("subject").index.tolist()
    side = Side(
        cohort.images[rows],
        cohort.labels[rows],
        cohort.masks[rows],
        tuple(cohort.cases[row] for row in rows),
    )
    return side, cohort.spacing_mm, None


def _simulated() -> tuple[Side, tuple[float, ...], Truth]:
    config = SIMULATED
    cohort = simulate(config)
    images = torch.stack(
        [_padded(v.image.astype(np.float32), config.shape) for v in cohort.volumes]
    )
    labels = torch.stack([_padded(v.label, config.shape) for v in cohort.volumes])
    masks = torch.stack([_padded(np.ones_like(v.label), config.shape) for v in cohort.volumes])
    side = Side(images, labels, masks > 0, cohort.truth.cases)
    return side, (config.spacing_mm,) * 3, cohort.truth


def _padded(volume: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    margins = [(n - m) // 2 for n, m in zip(shape, volume.shape, strict=True)]
    width = [(low, n - m - low) for low, n, m in zip(margins, shape, volume.shape, strict=True)]
    return torch.from_numpy(np.pad(volume, width))[None]
