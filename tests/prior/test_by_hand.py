"""The example of docs/method.md runs as it stands there."""

from pathlib import Path
from typing import Any

import torch

from tests.registration.volumes import known_warp, texture

METHOD = Path(__file__).parents[2] / "docs" / "method.md"


def test_the_steps_by_hand_go_from_volumes_to_dreams() -> None:
    code = METHOD.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    shape = (24, 28)
    torch.manual_seed(0)
    images = torch.cat([known_warp(shape, 1.0, seed=k).warp(texture(shape)) for k in range(4)])
    names: dict[str, Any] = {
        "images": images, "labels": (images > 0).byte(), "spacing": (1.5, 1.5)
    }  # fmt: skip
    exec(code, names)
    assert names["pairs"].affine.equal(torch.eye(3).double().expand(6, 3, 3))
    assert names["prior"].extent_mm == (36.0, 42.0)
    assert names["dreams"].images.shape == (4, 1, *shape)
    assert names["dreams"].masks.float().mean() > 0.7
