"""What a network learns from, and in which order its volumes are shown."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.data import DataLoader, Dataset

from dreamorph.errors import TrainingError
from dreamorph.training.config import TrainingConfig
from dreamorph.training.seeding import generator_for

Task = Literal["segmentation", "classification"]

#: Volumes per step where the configuration leaves it open.
_BATCH_SIZES: dict[Task, int] = {"segmentation": 1, "classification": 4}


def batch_size(config: TrainingConfig, task: Task) -> int:
    """Volumes per step."""
    return config.batch_size or _BATCH_SIZES[task]


@dataclass(frozen=True)
class TrainingData:
    """The volumes a network may learn from, on one grid.

    Attributes:
        images: `(N, 1, *shape)` float32, zero outside the masks.
        labels: `(N, 1, *shape)` uint8; may be all zero for classification.
        masks: `(N, 1, *shape)` bool, true where a volume has content.
        classes: `(N,)` int64, or None for segmentation.
        n_outputs: labels including background, or classes.
    """

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    classes: torch.Tensor | None
    n_outputs: int

    def __post_init__(self) -> None:
        for name in ("labels", "masks"):
            shape = getattr(self, name).shape
            if shape != self.images.shape:
                raise TrainingError(
                    f"{name} have shape {tuple(shape)}, expected that of the images, "
                    f"{tuple(self.images.shape)}"
                )
        if len(self.images) == 0:
            raise TrainingError("no volume to train on: label at least one training case")
        highest = int((self.labels if self.classes is None else self.classes).max())
        if highest >= self.n_outputs:
            raise TrainingError(
                f"a {'label' if self.classes is None else 'class'} is {highest}, "
                f"expected at most {self.n_outputs - 1}: check n_outputs"
            )

    @property
    def task(self) -> Task:
        """Segmentation where there are no classes."""
        return "segmentation" if self.classes is None else "classification"

    @property
    def ndim(self) -> int:
        """Spatial dimensions."""
        return self.images.dim() - 2

    def __len__(self) -> int:
        return len(self.images)

    def class_weights(self) -> torch.Tensor | None:
        """Weights `(n_outputs,)` inverse to the frequency of the classes, mean 1 over the volumes.

        None for segmentation, and where all classes are equally frequent. A class without a volume
        gets no weight.
        """
        if self.classes is None:
            return None
        counts = torch.bincount(self.classes, minlength=self.n_outputs).float()
        if bool((counts == counts[0]).all()):
            return None
        present = (counts > 0).sum()
        return torch.where(counts > 0, len(self) / (present * counts.clamp(min=1)), 0.0)


def members_at(step: int, count: int, batch_size: int, seed: int) -> torch.Tensor:
    """Rows `(batch_size,)` of the cohort shown at a step.

    The rows come in shuffled rounds, each row once a round, and follow from the seed and the step
    alone: an interrupted training continues exactly, and all arms see the same order.
    """
    rows = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        cycle, place = divmod(position, count)
        order = torch.randperm(count, generator=generator_for(seed, "order", cycle))
        rows.append(order[place])
    return torch.stack(rows)


class Steps(Dataset[int]):
    """The numbers of the steps; what is seen at a step follows from its number alone."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def step_loader(count: int) -> DataLoader[int]:
    """Gives Lightning its steps; nothing is loaded, so no workers are wanted."""
    return DataLoader(
        Steps(count), batch_size=None, num_workers=0, generator=torch.Generator().manual_seed(0)
    )
