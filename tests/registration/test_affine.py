"""Affine maps from bad starts, and what happens when none leads anywhere."""

import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.cohorts import load_pairs, widened
from benchmarks.cohorts import turned as away_from
from dreamorph.registration import AffineConfig, RegistrationConfig, register
from dreamorph.registration.affine import _overlap, _Search
from dreamorph.registration.groupwise import quality_table
from dreamorph.registration.pyramid import Pairs
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


def test_padding_changes_no_map() -> None:
    """What counts is how wide the content is, not the grid: a margin of air adds no coarse level.

    Within 48 voxels these volumes are 40 wide; with the margin the grid would bear level 4.
    """
    shape, margin = (48, 48, 48), 12
    content = torch.zeros(1, 1, *shape)
    content[..., 4:-4, 4:-4, 4:-4] = 1
    moving = (texture(shape, seed=4) + 12) * content
    truth = SpatialTransform.identity(1, shape, (1.0,) * 3).before(
        turned(3, (0, 1), 10.0, [2.0, -1.0, 1.0])
    )
    volumes = [truth.warp(moving), moving, truth.warp(content), content]
    plain = register(*volumes[:2], AFFINE, None, None, *volumes[2:]).affine
    wide = [torch.nn.functional.pad(volume, [margin] * 6) for volume in volumes]
    padded = register(*wide[:2], AFFINE, None, None, *wide[2:]).affine
    apart = torch.linalg.inv(plain) @ padded
    assert float((apart - torch.eye(4).double()).abs().max()) < 0.05


def test_pairs_of_differing_content_keep_their_own_levels() -> None:
    shape = (80, 72, 72)
    moving = (texture(shape, seed=5, batch=2) + 12) * 1.0
    masks = torch.zeros_like(moving)
    masks[0, :, 20:60, 16:56, 16:56], masks[1] = 1, 1
    moving = moving * masks
    fixed = moving.roll((2, 1, -1), dims=(2, 3, 4))
    held = masks.roll((2, 1, -1), dims=(2, 3, 4))
    both = register(fixed, moving, AFFINE, None, None, held, masks).affine
    for row in range(2):
        part = [volume[[row]] for volume in (fixed, moving, held, masks)]
        alone = register(*part[:2], AFFINE, None, None, *part[2:]).affine
        assert torch.allclose(both[[row]], alone, atol=1e-4)


def test_affine_maps_both_ways_are_inverses() -> None:
    shape = (32, 36, 32)
    moving = texture(shape, seed=6)
    truth = SpatialTransform.identity(1, shape, (1.0,) * 3).before(
        turned(3, (1, 2), 8.0, [1.5, -1.0, 0.5])
    )
    fixed = truth.warp(moving)
    there, back = register(fixed, moving, AFFINE), register(moving, fixed, AFFINE)
    apart = there.affine @ back.affine
    assert float((apart[:, :3, :3] - torch.eye(3).double()).abs().max()) < 0.01
    assert float(apart[:, :3, 3].abs().max()) < 0.1


def test_heads_started_thirty_degrees_and_twenty_millimetres_apart() -> None:
    """Simulated heads moved away end where they end as they are, none of them lost."""
    near = load_pairs("simulated", 4, development=True)
    far = replace(
        near,
        fixed=widened(near.fixed),
        moving=away_from(widened(near.moving), near.spacing_mm),
    )
    scores = []
    for pairs in (near, far):
        fixed, moving = pairs.fixed, pairs.moving
        found = register(
            fixed.images, moving.images, AFFINE, None, None, fixed.masks, moving.masks,
            pairs.spacing_mm,
        )  # fmt: skip
        assert not any(found.failed)
        labels = found.transform.warp_labels(moving.labels, max(pairs.labels))
        scores.append(
            [hard_dice(a[None], b[None]) for a, b in zip(fixed.labels, labels, strict=True)]
        )
    for as_they_are, moved in zip(*scores, strict=True):
        assert float(moved) > float(as_they_are) - 0.05


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
        (1.1, 0.2, 0.22, 0.8, 0.2, ""),
        (1.1, 0.15, 0.22, 0.8, 0.2, "overlap of 15%"),
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


def test_overlap_is_that_of_the_volume_that_shares_less_of_itself() -> None:
    shape = (12, 12, 12)
    fixed_mask, moving_mask = torch.ones(1, 1, *shape), torch.zeros(1, 1, *shape)
    moving_mask[..., :3, :, :] = 1
    still, volume = torch.zeros(1, 4, 4, dtype=torch.float64), texture(shape)
    edges = (12.0, 12.0, 12.0)
    for masks in ((fixed_mask, moving_mask), (moving_mask, fixed_mask)):
        pairs = Pairs(volume, volume, *masks, None, None, edges)
        assert float(_overlap(pairs, still)) == pytest.approx(0.25)


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


def test_of_two_pairs_retried_each_keeps_its_own_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both end badly at first; then one ends well from some start, the other from none."""
    moving = texture((24, 24, 24), seed=3, batch=2)
    fixed, asked = moving.roll((1, 1), dims=(2, 3)), []

    def faults(self: _Search, owners: torch.Tensor, log: torch.Tensor) -> list[str]:
        asked.append(owners.tolist())
        return ["bad" if len(asked) == 1 or owner == 1 else "" for owner in owners.tolist()]

    monkeypatch.setattr(_Search, "faults", faults)
    result = register(fixed, moving, AFFINE)
    assert asked[0] == [0, 1]
    assert set(asked[1]) == {0, 1}
    assert result.failures == ("", "bad")
    assert (result.affine[0] - torch.eye(4)).abs().max() > 0.5
    assert torch.equal(result.affine[1], torch.eye(4, dtype=torch.float64))


def test_volumes_that_do_not_look_alike_are_reported() -> None:
    """Two unrelated textures, and one that is only moved: the first pair is not to be trusted."""
    fixed, moving = texture((40, 40, 40), seed=1, batch=2), texture((40, 40, 40), seed=2, batch=2)
    fixed[1] = moving[1].roll((2, -1, 1), dims=(1, 2, 3))
    result = register(fixed, moving, AFFINE)
    assert result.failed == (True, False)
    assert "do not look alike" in result.failures[0]
    trusting = AFFINE.model_copy(update={"affine": AffineConfig(least_correlation=-1.0)})
    assert register(fixed, moving, trusting).failed == (False, False)


def test_volumes_that_do_not_look_alike_keep_the_best_map_found() -> None:
    fixed, moving = texture((40, 40, 40), seed=1), texture((40, 40, 40), seed=2)
    result = register(fixed, moving, AFFINE)
    assert result.failed == (True,)
    assert not torch.equal(result.affine[0], torch.eye(4, dtype=torch.float64))


def test_shapes_in_much_empty_space_look_alike() -> None:
    """Most windows show nothing of either, and must not count as unlike."""
    axes = [torch.arange(40.0) - 19.5] * 3
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def ellipsoid(*radii: float) -> torch.Tensor:
        inside = (points / torch.tensor(radii).reshape(3, 1, 1, 1)).square().sum(0) < 1
        return inside.float()[None, None]

    fixed, moving = ellipsoid(7, 9, 6), ellipsoid(6, 8, 8)
    result = register(fixed, moving, RegistrationConfig(velocity=None))
    assert result.failures == ("",)
    assert float(hard_dice(fixed, (result.warp(moving) > 0.5).float())) > 0.9


def test_real_shapes_look_alike(real_data: Path) -> None:
    with np.load(real_data / "adrenalmnist3d_64.npz") as file:
        shapes = torch.from_numpy(file["train_images"][:4]).float()[:, None]
    result = register(shapes[:2], shapes[2:], RegistrationConfig(preset="fast", velocity=None))
    assert result.failures == ("", "")


@pytest.mark.usefixtures("real_data")
def test_scans_of_different_parts_of_the_body_are_reported() -> None:
    """Of four CT pairs some end where no bone meets bone, and these are named, no others."""
    pairs = load_pairs("ct", 4, development=True)
    fixed, moving = pairs.fixed, pairs.moving
    result = register(
        fixed.images, moving.images, AFFINE, None, None, fixed.masks, moving.masks,
        pairs.spacing_mm,
    )  # fmt: skip
    (bone,) = pairs.labels
    met = result.warp((moving.labels == bone).byte(), labels=True)
    meets = [bool(one > 0.1) for one in hard_dice((fixed.labels == bone).byte(), met)]
    assert meets == [not failed for failed in result.failed]
    assert any(result.failed)
    assert not all(result.failed)


@pytest.mark.usefixtures("real_data", "one_thread")
def test_the_affine_map_of_a_real_pair_does_not_depend_on_its_batch() -> None:
    """Scanned boxes of three sizes: sums that the batch rounds would grow to tenths of a mm."""
    pairs = load_pairs("hippocampus", 3, development=True)

    def maps(rows: list[int]) -> torch.Tensor:
        fixed, moving = pairs[rows].fixed, pairs[rows].moving
        masks = fixed.masks, moving.masks
        return register(
            fixed.images, moving.images, AFFINE, None, None, *masks, pairs.spacing_mm
        ).affine

    together = maps([0, 1, 2])
    alone = torch.cat([maps([row]) for row in range(3)])
    assert torch.allclose(alone, together, rtol=0, atol=1e-10)


def test_a_failed_pair_is_set_aside_with_its_reason() -> None:
    plan = pd.DataFrame({"fixed": [0], "moving": [1], "kind": ["labelled"]})
    quality = {"similarity": 0.8, "dice": 0.7, "folded": 0, "inverse_error_mm": 0.01}
    quality |= {"log_jacobian_min": -1.0, "log_jacobian_max": 1.0}
    result = {"before": quality, "after": quality, "failure": "affine similarity fell"}
    assert quality_table(plan, [result]).set_aside.to_list() == ["affine similarity fell"]
