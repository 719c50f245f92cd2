"""Affine maps from bad starts, and what happens when none leads anywhere."""

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.registration import AffineConfig, RegistrationConfig, register
from dreamorph.registration.affine import _Search
from dreamorph.registration.groupwise import quality_table
from dreamorph.registration.quality import hard_dice
from dreamorph.spatial import SpatialTransform
from tests.registration.volumes import error_mm, texture

AFFINE = RegistrationConfig(velocity=None)


def turned(
    ndim: int, plane: tuple[int, int], degrees: float, shift_mm: list[float]
) -> torch.Tensor:
    matrix = torch.eye(ndim + 1, dtype=torch.float64)[None]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b = plane
    matrix[0, a, a] = matrix[0, b, b] = cos
    matrix[0, a, b], matrix[0, b, a] = -sin, sin
    matrix[0, :ndim, ndim] = torch.tensor(shift_mm, dtype=torch.float64)
    return matrix


@pytest.mark.parametrize(
    ("shape", "plane", "shift"),
    [((64, 60), (0, 1), [8.0, -6.0]), ((44, 40, 36), (2, 0), [5.0, -5.0, 4.0])],
)
def test_a_volume_turned_by_thirty_degrees_is_found(
    shape: tuple[int, ...], plane: tuple[int, int], shift: list[float]
) -> None:
    ndim = len(shape)
    content = torch.zeros(1, 1, *shape)
    inner = (slice(None), slice(None), *[slice(n // 4, -(n // 4)) for n in shape])
    content[inner] = 1.0
    moving = (texture(shape) + 12) * content
    still = SpatialTransform.identity(1, shape, [1.0] * ndim)
    truth = still.before(turned(ndim, plane, 30.0, shift))
    result = register(truth.warp(moving), moving, AFFINE, spacing=[1.0] * ndim)
    assert result.failures == ("",)
    assert error_mm(result.transform, truth, margin=12) < 0.5


@pytest.mark.realdata
def test_real_pairs_started_thirty_degrees_and_twenty_millimetres_apart(real_data: Path) -> None:
    """The same pair as it came and moved away must end with the same overlap."""
    folder = real_data / "Task04_Hippocampus"
    (fixed, fixed_label), (moving, moving_label) = (
        _padded(folder, name) for name in ("hippocampus_227", "hippocampus_091")
    )
    away = SpatialTransform.identity(1, tuple(fixed.shape[2:]), (1.0, 1.0, 1.0)).before(
        turned(3, (1, 2), 30.0, [12.0, -12.0, 10.5])
    )
    apart = away.warp(fixed), away.warp_labels(fixed_label, 2)
    mask = (away.warp((fixed != 0).float()) > 0.5).float()
    scores = []
    for image, label, seen in (
        (fixed, fixed_label, (fixed != 0).float()),
        (*apart, mask),
    ):
        result = register(image, moving, AFFINE, fixed_mask=seen, moving_mask=(moving != 0).float())
        assert result.failed == (False,)
        scores.append(float(hard_dice(label, result.transform.warp_labels(moving_label, 2))))
    assert float(hard_dice(apart[1], moving_label)) < 0.05
    assert scores[0] > 0.7
    assert scores[1] > scores[0] - 0.05


def _padded(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A volume and its labels in the middle of a grid with 20 voxels around it."""
    parts = []
    for kind in ("imagesTr", "labelsTr"):
        voxels = np.asarray(nib.load(folder / kind / f"{name}.nii.gz").dataobj).astype(np.float32)
        if kind == "imagesTr":
            voxels = (voxels - voxels.mean()) / voxels.std() + 10
        free = [n - m for n, m in zip((80, 92, 80), voxels.shape, strict=True)]
        parts.append(np.pad(voxels, [(f // 2, f - f // 2) for f in free]))
    image, label = (torch.from_numpy(part)[None, None] for part in parts)
    return image, label.round().to(torch.uint8)


def test_a_pair_that_no_start_brings_together_is_reported_and_left_alone() -> None:
    strict = AFFINE.model_copy(
        update={"affine": AffineConfig(iterations=(6, 6), max_volume_change=1.000001)}
    )
    fixed, moving = texture((20, 20, 20), seed=1, batch=2), texture((20, 20, 20), seed=2, batch=2)
    fixed[1] = moving[1]
    result = register(fixed, moving, strict)
    assert result.failed[0]
    assert "changes volume" in result.failures[0]
    assert torch.equal(result.affine[0], torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("determinant", "overlap", "reachable", "found", "given", "reason"),
    [
        (1.1, 0.9, 1.0, 0.8, 0.2, ""),
        (4.0, 0.9, 1.0, 0.8, 0.2, "changes volume"),
        (0.2, 0.9, 1.0, 0.8, 0.2, "changes volume"),
        (float("nan"), 0.9, 1.0, 0.8, 0.2, "changes volume"),
        (1.1, 0.2, 1.0, 0.8, 0.2, "overlap of 20%"),
        (1.1, 0.2, 0.1, 0.8, 0.2, ""),
        (1.1, 0.0, 0.0, 0.8, 0.2, "overlap of 0%"),
        (1.1, 0.9, 1.0, 0.1, 0.2, "similarity fell"),
        (1.1, 0.9, 1.0, float("nan"), 0.2, "similarity fell"),
    ],
)
def test_every_fault_is_named(
    determinant: float, overlap: float, reachable: float, found: float, given: float, reason: str
) -> None:
    search = _Search(AFFINE, AffineConfig(), {})
    fault = search._fault(determinant, overlap, reachable, found, given)
    assert reason in fault
    assert bool(fault) == bool(reason)


def test_volumes_that_start_apart_may_not_end_apart() -> None:
    """Content in opposite corners: the given alignment shares nothing, so it excuses nothing."""
    shape = (48, 48, 48)
    masks = torch.zeros(2, 1, 1, *shape)
    masks[0, ..., :18, :18, :18], masks[1, ..., -18:, -18:, -18:] = 1, 1
    for seed in range(3):
        fixed, moving = texture(shape, seed=seed), texture(shape, seed=seed + 10)
        result = register(fixed, moving, AFFINE, None, None, *masks)
        seen = result.transform.warp(masks[1], padding="zeros")
        share = float((seen * masks[0]).sum() / masks[0].sum())
        assert result.failed[0] or share >= AffineConfig().least_overlap


def test_another_start_rescues_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best start is said to end badly; the pair is carried through again from the others."""
    moving = texture((24, 24, 24), seed=3)
    truth = SpatialTransform.identity(1, (24, 24, 24), (1.0,) * 3).before(
        turned(3, (0, 1), 5.0, [1.0, -1.0, 0.5])
    )
    faults, asked = _Search.faults, []

    def first_is_bad(self: _Search, owners: torch.Tensor, log: torch.Tensor) -> list[str]:
        asked.append(len(log))
        return ["bad"] if len(asked) == 1 else faults(self, owners, log)

    monkeypatch.setattr(_Search, "faults", first_is_bad)
    result = register(truth.warp(moving), moving, AFFINE)
    assert asked[0] == 1
    assert asked[1] >= 2
    assert result.failed == (False,)
    apart = (result.transform.points() - truth.points())[..., 6:-6, 6:-6, 6:-6].norm(dim=1)
    assert apart.mean() < 0.3


def test_a_failed_pair_is_set_aside_with_its_reason() -> None:
    plan = pd.DataFrame({"fixed": [0], "moving": [1], "kind": ["labelled"]})
    quality = {"similarity": 0.8, "dice": 0.7, "folded": 0, "inverse_error_mm": 0.01}
    quality |= {"log_jacobian_min": -1.0, "log_jacobian_max": 1.0}
    result = {"before": quality, "after": quality, "failure": "affine similarity fell"}
    assert quality_table(plan, [result]).set_aside.to_list() == ["affine similarity fell"]
