"""Registration of volumes whose true map is known."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch

from dreamorph.errors import RegistrationError
from dreamorph.registration import (
    AffineConfig,
    RegistrationConfig,
    RegistrationResult,
    VelocityConfig,
    register,
)
from dreamorph.registration.pyramid import Pairs
from dreamorph.registration.quality import hard_dice
from dreamorph.spatial import SpatialTransform, affine_exp, gaussian_smooth
from dreamorph.spatial.transform import concatenate
from tests.registration.volumes import error_mm, known_warp, texture

QUICK = RegistrationConfig(
    affine=AffineConfig(iterations=(40, 20)), velocity=VelocityConfig(iterations=(20, 20, 20))
)


@pytest.mark.parametrize("shape", [(40, 44), (28, 32, 30)])
def test_a_known_warp_is_recovered_in_2d_and_3d(shape: tuple[int, ...]) -> None:
    moving, truth = texture(shape), known_warp(shape, 1.5)
    config = QUICK.model_copy(update={"affine": None})
    result = register(truth.warp(moving), moving, config, spacing=[1.0] * len(shape))
    assert error_mm(result.transform, truth) < 0.35
    assert not result.transform.folded().any()


def test_a_known_affine_map_is_recovered() -> None:
    shape = (28, 32, 30)
    log = torch.zeros(1, 4, 4, dtype=torch.float64)
    log[0, 0, 1], log[0, 1, 0], log[0, 2, 2] = 0.15, -0.15, 0.1
    log[0, :3, 3] = torch.tensor([2.0, -1.5, 1.0])
    still = SpatialTransform.identity(1, shape, (1.0, 1.0, 1.0))
    truth = still.before(affine_exp(log))
    moving = texture(shape)
    result = register(truth.warp(moving), moving, RegistrationConfig(velocity=None))
    assert error_mm(result.transform, truth) < 0.2
    with pytest.raises(RegistrationError, match="no velocity"):
        _ = result.velocity


def test_spacing_is_in_millimetres() -> None:
    shape, truth = (28, 32, 30), known_warp((28, 32, 30), 1.5)
    moving = texture(shape)
    config = QUICK.model_copy(update={"affine": None})
    result = register(truth.warp(moving), moving, config, spacing=(2.0, 2.0, 2.0))
    found = result.transform.displacement()
    expected = 2 * truth.displacement()
    assert (found - expected)[..., 6:-6, 6:-6, 6:-6].norm(dim=1).mean() < 0.7


def test_two_slices_are_registered() -> None:
    moving = texture((2, 48, 48))
    fixed = moving.roll(2, -1)
    result = register(fixed, moving, RegistrationConfig())
    assert result.failures == ("",)
    inner = (..., slice(8, -8), slice(8, -8))
    assert (result.warp(moving) - fixed)[inner].abs().mean() < 0.3 * fixed.std()


def test_single_slices_are_guided_by_labels() -> None:
    """One pair has labels and the other none, so that each has penalties of its own."""
    moving = texture((24, 20, 1), batch=2)
    fixed = moving.roll(1, 2)
    labels = [(volume > 0).byte() for volume in (fixed, moving)]
    for label in labels:
        label[1] = 0
    config = RegistrationConfig(preset="fast", affine=None)
    result = register(fixed, moving, config, *labels)
    assert torch.isfinite(result.velocity).all()
    assert (result.warp(moving) - fixed).abs().mean() < 0.7 * (moving - fixed).abs().mean()


def test_volumes_whose_contents_do_not_meet_are_reported_without_an_affine_step() -> None:
    volumes, masks = texture((24, 24), batch=2), torch.ones(2, 1, 24, 24)
    masks[0, ..., 10:] = 0
    other = masks.clone()
    other[0] = 1 - masks[0]
    config = RegistrationConfig(affine=None)
    failures = register(
        volumes, volumes, config, fixed_mask=masks, moving_mask=other, spacing=(1.0, 1.0)
    ).failures
    assert "do not meet" in failures[0]
    assert not failures[1]


@pytest.mark.parametrize("spacing", [0.1, 2.0])
def test_voxels_of_any_size_are_registered(spacing: float) -> None:
    """Where they are smaller than 1 mm the steps shrink with them; elsewhere they stay."""
    shape = (24, 28, 26)
    moving = texture(shape)
    fixed = known_warp(shape, 1.5).warp(moving).roll(2, -1)
    one = register(fixed, moving, QUICK)
    other = register(fixed, moving, QUICK, spacing=[spacing] * 3)
    assert other.failures == ("",)
    moved = other.transform.displacement() / spacing - one.transform.displacement()
    assert moved.norm(dim=1).mean() < (0.02 if spacing < 1 else 0.5)


def test_steps_of_one_millimetre_and_more_are_those_asked_for() -> None:
    volume = texture((10, 12, 14))
    extents = [(10.0, 12.0, 14.0), (5.0, 24.0, 14.0), (20.0, 30.0, 21.0)]
    sizes = [Pairs(*[volume] * 4, None, None, extent).voxel_mm for extent in extents]
    assert sizes[0] == 1.0
    assert all(size >= 1.0 for size in sizes)


def test_identical_volumes_stay_where_they_are() -> None:
    volume = texture((20, 20, 20))
    result = register(volume, volume, QUICK)
    assert result.transform.displacement().norm(dim=1).mean() < 0.1


def test_a_result_does_not_depend_on_its_batch() -> None:
    shape = (24, 24, 24)
    moving, truth = texture(shape, batch=3), known_warp(shape, 1.5, batch=3)
    fixed = truth.warp(moving)
    masks = torch.ones_like(fixed)
    masks[1, ..., :4] = 0
    together = register(fixed, moving, QUICK, fixed_mask=masks, moving_mask=masks)
    alone = register(fixed[1:2], moving[1:2], QUICK, fixed_mask=masks[1:2], moving_mask=masks[1:2])
    assert torch.allclose(together.velocity[1:2], alone.velocity, atol=5e-3)


def test_padding_has_no_say() -> None:
    shape = (24, 24, 24)
    moving, truth = texture(shape), known_warp(shape, 1.0)
    fixed = truth.warp(moving)
    mask = torch.zeros_like(fixed)
    mask[..., 4:20, 4:20, 4:20] = 1
    clean = register(fixed * mask, moving, QUICK, fixed_mask=mask)
    noisy = torch.where(mask > 0, fixed, 50 * torch.randn_like(fixed))
    again = register(noisy, moving, QUICK, fixed_mask=mask)
    assert torch.allclose(clean.velocity, again.velocity, atol=1e-4)


def test_labels_guide_where_the_image_is_silent() -> None:
    shape = (24, 24, 24)
    flat = 0.01 * texture(shape)
    moving_labels = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    fixed_labels = moving_labels.clone()
    moving_labels[..., 8:16, 8:16, 8:16] = 1
    fixed_labels[..., 8:16, 8:18, 8:16] = 1
    config = QUICK.model_copy(update={"affine": None, "label_weight": 5.0})
    blind = register(flat, flat, config).warp(moving_labels.float(), labels=True)
    guided = register(flat, flat, config, fixed_labels, moving_labels)
    seeing = guided.warp(moving_labels.float(), labels=True)
    assert hard_dice(fixed_labels, blind.byte()) < 0.9
    assert hard_dice(fixed_labels, seeing.byte()) > 0.96


def test_labels_of_any_number_survive_a_warp() -> None:
    labels = torch.zeros(1, 1, 16, 16, 16)
    labels[..., 4:8], labels[..., 8:12] = 300, -2
    result = register(texture((16, 16, 16)), texture((16, 16, 16)), QUICK)
    assert torch.equal(result.warp(labels, labels=True).unique(), labels.unique())
    with pytest.raises(RegistrationError, match="is it an image"):
        result.warp(torch.arange(16.0**3).reshape(1, 1, 16, 16, 16), labels=True)


def test_large_integer_labels_are_not_rounded() -> None:
    labels = torch.zeros(1, 1, 8, 8, 8, dtype=torch.int32)
    labels[..., :4], labels[..., 4:] = 2**24, 2**24 + 1
    result = RegistrationResult(SpatialTransform.identity(1, (8, 8, 8), (1.0, 1.0, 1.0)))
    assert torch.equal(result.warp(labels, labels=True), labels)


def test_labels_have_one_channel_and_are_whole() -> None:
    """As many channels as labels ran, and gave a volume of zeros."""
    result = RegistrationResult(SpatialTransform.identity(1, (8, 8, 8), (1.0, 1.0, 1.0)))
    labels = torch.arange(3.0).reshape(1, 3, 1, 1, 1).expand(1, 3, 8, 8, 8)
    for volume in (labels, labels[:, :2]):
        with pytest.raises(RegistrationError, match="in one channel"):
            result.warp(volume, labels=True)
    with pytest.raises(ValueError, match="expected labels"):
        result.transform.warp_labels(labels, 2)
    for value in (0.5, float("nan"), float("inf")):
        odd = torch.full((1, 1, 8, 8, 8), value)
        with pytest.raises(RegistrationError, match="labels that are whole numbers"):
            result.warp(odd, labels=True)
        volume = texture((8, 8, 8))
        with pytest.raises(RegistrationError, match="labels that are whole numbers"):
            register(volume, volume, QUICK, fixed_labels=odd, moving_labels=odd)
    nearly = torch.full((1, 1, 8, 8, 8), 7.0004)
    assert torch.equal(result.warp(nearly, labels=True), nearly.round())


def test_labels_of_sixteen_bits_are_labels() -> None:
    shape = (16, 16, 16)
    volume = texture(shape)
    labels = ((volume > 0).int() * 300).to(torch.uint16)
    byte = (volume > 0).byte()
    result = register(volume, volume, QUICK, fixed_labels=labels, moving_labels=byte)
    plain = register(volume, volume, QUICK, fixed_labels=byte, moving_labels=byte * 2)
    assert result.velocity.shape == plain.velocity.shape
    moved = result.warp(labels, labels=True)
    assert moved.dtype == torch.uint16
    assert torch.equal(moved.int(), result.warp(labels.int(), labels=True))


def test_labels_guide_alike_whatever_their_numbers() -> None:
    shape = (20, 20, 20)
    fixed, moving = texture(shape), texture(shape, seed=1)
    labels = [(volume > 1).long() for volume in (fixed, moving)]
    plain = register(fixed, moving, QUICK, *labels)
    large = register(fixed, moving, QUICK, *[2035 * label for label in labels])
    told = register(fixed, moving, QUICK, *[label.bool() for label in labels])
    assert torch.equal(plain.velocity, large.velocity)
    assert torch.equal(plain.velocity, told.velocity)


def test_the_inverse_result_maps_the_other_way() -> None:
    shape = (24, 24, 24)
    moving, truth = texture(shape), known_warp(shape, 1.5)
    result = register(truth.warp(moving), moving, QUICK)
    there = result.inverse().transform
    grid = there.points()
    back = result.transform.map(grid)
    identity = SpatialTransform.identity(1, shape, (1.0, 1.0, 1.0)).points()
    assert (back - identity)[..., 5:-5, 5:-5, 5:-5].norm(dim=1).mean() < 0.005
    assert torch.allclose(result.inverse().inverse().transform.points(), result.transform.points())


def test_a_result_maps_its_pairs_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    moving, truth = texture((12, 14, 10), batch=5), known_warp((12, 14, 10), 1.0)
    config = RegistrationConfig(affine=None, velocity=VelocityConfig(iterations=(2, 2, 2)))
    result = register(truth.warp(moving), moving, config)
    labels = (moving > 0).to(torch.int16) * 300
    whole = result.transform.warp(moving)
    module, asked = import_module("dreamorph.registration.register"), []

    def two_at_once(*_: object, n_labels: int) -> int:
        asked.append(n_labels)
        return 2

    monkeypatch.setattr(module, "batch_size", two_at_once)
    assert torch.allclose(result.warp(moving), whole)
    moved = result.warp(labels, labels=True)
    assert (moved.dtype, set(moved.unique().tolist())) == (torch.int16, {0, 300})
    determinants = result.transform.jacobian_determinant()
    assert torch.allclose(result.jacobian_determinant(), determinants)
    assert asked == [1, 2, 0]  # channels of the image, of one-hot labels, of none


def test_one_map_serves_many_volumes_and_other_numbers_are_refused() -> None:
    shape = (12, 14, 10)
    volumes, two = texture(shape, batch=3), known_warp(shape, 1.0)
    one = RegistrationResult(two, ("",))
    assert torch.allclose(one.warp(volumes)[2:], one.warp(volumes[2:]))
    pair = RegistrationResult(concatenate([two, two]), ("", ""))
    with pytest.raises(RegistrationError, match="expected 2 volumes, one for each map, got 3"):
        pair.warp(volumes)


def test_a_volume_of_another_grid_is_not_stretched_to_this_one() -> None:
    found = RegistrationResult(SpatialTransform.identity(1, (8, 9, 10), (1.0, 1.0, 1.0)), ("",))
    assert found.warp(torch.zeros(1, 1, 8, 9, 10)).shape == (1, 1, 8, 9, 10)
    with pytest.raises(RegistrationError, match=r"expected volumes \(B, C, 8, 9, 10\) on the grid"):
        found.warp(torch.zeros(1, 1, 4, 9, 10))


def test_a_registration_that_folds_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deformable step is made to return a velocity that folds."""
    shape = (20, 20, 20)
    generator = torch.Generator().manual_seed(2)
    wild = 8 * gaussian_smooth(torch.randn(1, 3, 10, 10, 10, generator=generator), 0.5)
    still = SpatialTransform.identity(1, shape, (1.0,) * 3)
    assert replace(still, velocity=wild).folded().any()
    module = import_module("dreamorph.registration.register")
    monkeypatch.setattr(module, "register_velocity", lambda *_: wild)
    volume = texture(shape)
    result = register(volume, volume, RegistrationConfig(affine=None))
    assert bool((result.jacobian_determinant() > 0).all())
    assert float(result.transform.displacement().norm(dim=1).mean()) > 0.3


def test_large_voxels_do_not_coarsen_the_inverse() -> None:
    """Voxels of 4 mm and 2 by 2 by 5 mm: there and back as exactly as with small ones."""
    shape = (24, 24, 24)
    moving, truth = texture(shape), known_warp(shape, 1.5)
    for spacing in ((4.0, 4.0, 4.0), (2.0, 2.0, 5.0)):
        found = register(truth.warp(moving), moving, QUICK, spacing=spacing).transform
        back = found.inverse().map(found.points()) - found.identity(1, shape, spacing).points()
        moved = float(found.displacement().norm(dim=1).mean())
        assert moved > 1.0
        assert float(back.norm(dim=1).mean()) < 0.005


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moving": torch.zeros(1, 1, 8, 8, 9)}, "moving has shape"),
        ({"fixed": torch.full((1, 1, 8, 8, 8), float("nan"))}, "not finite"),
        ({"fixed": texture((8, 8, 8)).index_fill(2, torch.tensor(0), -3.4e38)}, "too large"),
        ({"moving": texture((8, 8, 8)).double().index_fill(2, torch.tensor(0), 1e300)}, "too lar"),
        ({"fixed": texture((8, 8, 8)).index_fill(2, torch.tensor(0), 1e20)}, "fixed .*too large"),
        ({"moving": texture((8, 8, 8)).index_fill(2, torch.tensor(0), -1e16)}, "moving .*too lar"),
        ({"moving": torch.full((1, 1, 8, 8, 8), float("nan"))}, "also outside the masks"),
        ({"fixed_mask": torch.zeros(1, 1, 8, 8, 8)}, "fixed_mask is empty"),
        ({"fixed": torch.zeros(1, 2, 8, 8, 8)}, "fixed must be"),
        ({"fixed_labels": torch.zeros(1, 1, 8, 8, 8)}, "labels of one volume only"),
        ({k: torch.zeros(0, 1, 8, 8, 8) for k in ("fixed", "moving")}, "at least one pair"),
        ({"spacing": (1.0, 1.0)}, "spacing must be 3 positive numbers"),  # type: ignore[dict-item]
        ({"spacing": 2.0}, "spacing must be 3 numbers of"),  # type: ignore[dict-item]
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing must be 3 positive"),  # type: ignore[dict-item]
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing must be 3 positive"),  # type: ignore[dict-item]
    ],
)
def test_bad_input_gets_one_clear_line(change: dict[str, torch.Tensor], message: str) -> None:
    volumes = {"fixed": torch.zeros(1, 1, 8, 8, 8), "moving": torch.zeros(1, 1, 8, 8, 8)}
    with pytest.raises(RegistrationError, match=message):
        register(**(volumes | change))


def test_fill_values_outside_the_mask_are_not_looked_at() -> None:
    volume, mask = texture((16, 16, 16)), torch.ones(1, 1, 16, 16, 16)
    mask[:, :, 0] = 0
    filled = volume.index_fill(2, torch.tensor(0), 1e20)
    plain = volume.index_fill(2, torch.tensor(0), 5.0)
    found = [register(v, v, QUICK, fixed_mask=mask, moving_mask=mask) for v in (filled, plain)]
    assert torch.equal(found[0].velocity, found[1].velocity)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_gets_one_clear_line() -> None:
    volume = torch.zeros(1, 1, 8, 8, 8)
    with pytest.raises(RegistrationError, match=r"registration\.device is 'cuda' but there is no"):
        register(volume, volume, RegistrationConfig(device="cuda"))


def test_a_label_that_one_patient_lacks_says_nothing_of_a_map() -> None:
    fixed, moving = torch.zeros(2, 1, 1, 6, 6).long().unbind(0)
    fixed, moving = fixed[None], moving[None]
    fixed[..., 1:3, 1:3], moving[..., 1:3, 1:3] = 1, 1
    fixed[..., 4, 4] = 2  # a lesion that the other one does not have
    assert float(hard_dice(fixed, moving)) == 1.0
    assert float(hard_dice(fixed, torch.zeros_like(moving), moving)) == 0.0  # moved out of sight
    assert hard_dice(fixed, torch.zeros_like(moving)).isnan().all()


@pytest.mark.parametrize("kind", [255, 7, True])
def test_a_mask_says_where_and_not_how_much(kind: int) -> None:
    """Masks of 0 and 255, or a label map for one, are everyday input."""
    shape = (24, 24, 24)
    moving, mask = texture(shape), torch.zeros(1, 1, *shape)
    mask[..., 4:20, 4:20, 4:20] = 1
    fixed = known_warp(shape, 1.0).warp(moving)
    expected = register(fixed, moving, QUICK, fixed_mask=mask, moving_mask=mask)
    other = (mask * kind).byte() if kind > 1 else mask.bool()
    found = register(fixed, moving, QUICK, fixed_mask=other, moving_mask=other)
    assert torch.equal(found.velocity, expected.velocity)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_descends_wherever_it_is_called(mode: type[torch.no_grad]) -> None:
    shape = (16, 16, 16)
    expected = register(known_warp(shape, 1.0).warp(texture(shape)), texture(shape), QUICK)
    with mode():
        moving = texture(shape)
        found = register(known_warp(shape, 1.0).warp(moving), moving, QUICK)
    assert torch.equal(found.velocity, expected.velocity)


def test_truths_are_labels() -> None:
    shape = (16, 16, 16)
    volume = texture(shape)
    result = register(volume, volume, QUICK, fixed_labels=volume > 0, moving_labels=volume > 0)
    moved = result.warp(volume > 0, labels=True)
    assert moved.dtype is torch.bool
    assert torch.equal(moved, result.warp((volume > 0).byte(), labels=True).bool())


def test_affine_and_velocity_compose_as_the_result_says() -> None:
    shape = (20, 20, 20)
    log = torch.zeros(1, 4, 4, dtype=torch.float64)
    log[0, 0, 1], log[0, 1, 0], log[0, 2, 3] = 0.2, -0.2, 1.0
    moving = known_warp(shape, 1.0).before(affine_exp(log)).warp(texture(shape))
    result = register(texture(shape), moving, QUICK)
    still = SpatialTransform.identity(1, shape, (1.0, 1.0, 1.0))
    for found, affine_first in ((result, False), (result.inverse(), True)):
        eye = torch.eye(4, dtype=torch.float64)[None]
        parts = (found.affine, eye) if affine_first else (eye, found.affine)
        built = replace(still, pre=parts[0], velocity=found.velocity, post=parts[1])
        assert (built.points() - found.transform.points()).abs().max() < 1e-4
