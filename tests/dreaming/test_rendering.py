"""The compiled loop gives what interpolation by torch gives."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from dreamorph.dreaming import rendering
from dreamorph.dreaming.rendering import render
from dreamorph.spatial import SpatialTransform, affine_exp, gaussian_smooth

SHAPE, SPACING = (14, 18, 11), (1.0, 2.0, 1.5)
N_LABELS = 3


def some_volumes(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = gaussian_smooth(torch.randn(3, 1, *SHAPE, generator=generator), 1.0)
    fields = gaussian_smooth(torch.randn(3, 5, *SHAPE, generator=generator), 1.5)
    labels = fields.argmax(dim=1, keepdim=True).to(torch.uint8)  # one more than those that count
    masks = torch.ones_like(labels, dtype=torch.bool)
    masks[0, :, :3], masks[1, ..., 8:] = False, False
    return images, labels, masks


def some_maps(seed: int = 0, coarse: tuple[int, ...] = (7, 9, 6)) -> SpatialTransform:
    generator = torch.Generator().manual_seed(seed)
    velocity = 6 * gaussian_smooth(torch.randn(3, 3, *coarse, generator=generator), 1.0)
    log = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    log[..., :3, :] = 0.15 * torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64)
    before, after = affine_exp(log[0]), affine_exp(log[1])
    return SpatialTransform(before, velocity, after, SHAPE, SPACING)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("coarse", [(7, 9, 6), (5, 4, 11), (1, 1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_both_ways_of_rendering_agree(seed: int, coarse: tuple[int, ...], threads: int) -> None:
    volumes, maps = some_volumes(seed), some_maps(seed, coarse)
    image, label, mask = render(*volumes, N_LABELS, maps)
    image_too, label_too, mask_too = rendering._sampled(*volumes, N_LABELS, maps)
    assert (image.dtype, label.dtype, mask.dtype) == (torch.float32, torch.uint8, torch.bool)
    same = mask == mask_too
    assert float((~same).float().mean()) < 1e-3  # a mask of one half, up to rounding
    assert torch.allclose(image[same], image_too[same], atol=1e-4)
    assert float((label != label_too).float().mean()) < 2e-3
    assert set(label.unique().tolist()) == set(range(N_LABELS + 1))
    assert 0.2 < float(mask.float().mean()) < 1.0


def test_maps_without_a_velocity_and_tasks_without_labels() -> None:
    images, labels, masks = some_volumes()
    maps = replace(some_maps(), velocity=None)
    image, label, mask = render(images, labels, masks, 0, maps)
    image_too, label_too, mask_too = rendering._sampled(images, labels, masks, 0, maps)
    assert torch.allclose(image, image_too, atol=1e-4)
    assert torch.equal(mask, mask_too)
    assert not label.any()
    assert not label_too.any()


def test_a_map_that_moves_nothing_gives_the_volume_back() -> None:
    images, labels, masks = some_volumes()
    still = SpatialTransform.identity(3, SHAPE, SPACING)
    image, label, mask = render(images, labels, masks, 4, still)
    assert torch.equal(mask, masks)
    assert torch.allclose(image, images * masks, atol=1e-5)
    assert torch.equal(label, labels * masks)


def test_a_map_out_of_the_volume_shows_nothing() -> None:
    images, labels, masks = some_volumes()
    away = affine_exp(torch.zeros(3, 4, 4, dtype=torch.float64))
    away[:, 0, 3] = 1e6
    still = SpatialTransform.identity(3, SHAPE, SPACING).before(away)
    image, label, mask = render(images, labels, masks, 4, still)
    assert not mask.any()
    assert not image.any()
    assert not label.any()
