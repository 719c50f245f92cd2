import pytest
import torch

from dreamorph.training import IntensityConfig
from dreamorph.training.intensity import draw_intensity
from dreamorph.training.seeding import generator_for
from tests.training.fakes import balls

NAMES = ("bias", "gamma", "smooth", "noise", "contrast")


def only(*wanted: str) -> IntensityConfig:
    return IntensityConfig(**{f"{n}_probability": float(n in wanted) for n in NAMES})


def change(config: IntensityConfig, key: str = "x"):
    return draw_intensity(4, 3, config, generator_for(key))


def moments(images, masks):
    values = [i[m] for i, m in zip(images, masks, strict=True)]
    return torch.tensor([[v.mean(), v.std(correction=0)] for v in values])


def test_nothing_drawn_changes_nothing():
    images, _, masks = balls()
    assert torch.allclose(change(only()).apply(images, masks), images, atol=1e-4)


@pytest.mark.parametrize("name", ["bias", "gamma", "smooth"])
def test_mean_and_spread_are_kept(name):
    images, _, masks = balls()
    changed = change(only(name)).apply(images, masks)
    assert (changed - images).abs().max() > 0.01
    assert torch.allclose(moments(changed, masks), moments(images, masks), atol=1e-4)


def test_gamma_keeps_the_order_of_brightness():
    images, _, masks = balls()
    changed = change(only("gamma")).apply(images, masks)
    for before, after, mask in zip(images, changed, masks, strict=True):
        order = before[mask].argsort()
        assert (after[mask][order].diff() > -1e-5).all()


def test_contrast_scales_the_spread_as_drawn():
    images, _, masks = balls()
    drawn = change(only("contrast"))
    ratio = moments(drawn.apply(images, masks), masks)[:, 1] / moments(images, masks)[:, 1]
    assert torch.allclose(ratio, drawn.contrast, atol=1e-4)


def test_noise_is_as_strong_as_drawn():
    images, _, masks = balls()
    drawn = change(only("noise"))
    added = moments(drawn.apply(images, masks) - images, masks)[:, 1]
    expected = drawn.noise_sd * moments(images, masks)[:, 1]
    assert torch.allclose(added, expected, rtol=0.1, atol=1e-4)


def test_padding_shapes_nothing():
    """Whatever lies beyond the mask, the result is the same: statistics and blur skip it."""
    images, _, masks = balls()
    config = only("bias", "gamma", "smooth", "contrast")
    foul = torch.where(masks, images, 1e4)
    assert torch.allclose(
        change(config).apply(images, masks), change(config).apply(foul, masks), atol=1e-3
    )


def test_drawing_takes_the_same_number_of_values_whatever_happens():
    generators = [generator_for("x"), generator_for("x")]
    for generator, config in zip(generators, (only(), only(*NAMES)), strict=True):
        draw_intensity(4, 3, config, generator)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_an_empty_mask_gives_zeros():
    images, _, masks = balls()
    changed = change(only("gamma", "smooth", "bias")).apply(images, torch.zeros_like(masks))
    assert torch.equal(changed, torch.zeros_like(changed))


def test_flat_volumes_stay_finite():
    _, _, masks = balls()
    flat = torch.ones(4, 1, 16, 16, 16) * masks
    assert torch.isfinite(change(only(*NAMES)).apply(flat, masks)).all()
