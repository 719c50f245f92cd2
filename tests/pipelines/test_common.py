"""What several steps share."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dreamorph.pipelines.common import velocities_of


class Read(Mapping[str, Any]):
    """Items that are made anew whenever they are asked for, as those on a disk are."""

    def __getitem__(self, key: str) -> dict[str, torch.Tensor]:
        return {"velocity": torch.full((3, 2, 2, 2), float(key))}

    def __iter__(self) -> Iterator[str]:
        return iter(("1", "2", "3"))

    def __len__(self) -> int:
        return 3


def test_velocities_stand_in_the_order_of_their_keys() -> None:
    found = velocities_of(Read(), ["3", "1", "3"])
    assert found.shape == (3, 3, 2, 2, 2)
    assert found.flatten(1).unique(dim=1).flatten().tolist() == [3.0, 1.0, 3.0]
