from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamorph.hallucination.provenance import (
    Origin,
    measure_origin,
    provenance,
    voxel_coordinates,
)
from dreamorph.spatial import SpatialTransform, gaussian_smooth, identity_affine
from tests.hallucination.worlds import warps


def spoiled(few, **parts):
    return provenance(few.with_dreams(replace(few.evidence.dreams, **parts)), few.config)


def test_honest_dreams_pass(few):
    found = provenance(few.evidence, few.config)
    assert found.passed
    assert found.value <= 1e-5


@pytest.mark.parametrize("size", [0.05, 0.5])
def test_canary_invented_blob(few, size):
    images = few.evidence.dreams.images.clone()
    images[7, 0, 10:13, 10:13, 10:13] += size
    found = spoiled(few, images=images)
    assert found.passed is False
    assert found.value > 0.01
    assert "1 of 8" in found.detail


def test_canary_blanked_inside_the_mask(few):
    images = few.evidence.dreams.images.clone()
    images[7, 0, 10:13, 10:13, 10:13] = 0
    assert spoiled(few, images=images).passed is False


def test_canary_mask_cannot_excuse_a_blank(few):
    dreams = few.evidence.dreams
    images, masks = dreams.images.clone(), dreams.masks.clone()
    images[7], masks[7] = 0, False
    assert spoiled(few, images=images, masks=masks).passed is False


def test_canary_shrunken_mask(few):
    masks = few.evidence.dreams.masks.clone()
    masks[7, 0, :, :14] = False
    found = spoiled(few, masks=masks)
    assert found.passed is False
    assert "masks that are not their source's 1" in found.detail


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_canary_shifted_label(few, axis):
    labels = few.evidence.dreams.labels.clone()
    labels[3] = labels[3].roll(1, axis - 1)
    found = spoiled(few, labels=labels)
    assert found.passed is False
    assert "relabelled 0" not in found.detail


def test_canary_one_relabelled_voxel(few):
    labels = few.evidence.dreams.labels.clone()
    labels[3, 0, 1, 1, 5] = 1
    found = spoiled(few, labels=labels)
    assert found.passed is False
    assert "relabelled 1" in found.detail


def test_canary_another_warp_than_recorded(few):
    velocity = few.evidence.dreams.transforms.velocity * 1.01
    assert spoiled(few, transforms=warps(velocity)).passed is False


def test_canary_another_source_than_recorded(few):
    index = few.evidence.dreams.source_index.clone()
    index[0] = (index[0] + 1) % 14
    found = spoiled(few, source_index=index)
    assert found.passed is False
    assert "source" in found.detail


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prior", ""),
        ("prior", "another"),
        ("seed", None),
        ("coefficients", ()),
        ("coefficients", (float("nan"),)),
        ("scale", float("inf")),
        ("cls", "sick"),
        ("source_subject", "s13"),
        ("dream", "dream_1"),
    ],
)
def test_canary_recipe(few, field, value):
    recipes = list(few.evidence.dreams.recipes)
    recipes[0] = replace(recipes[0], **{field: value})
    assert spoiled(few, recipes=tuple(recipes)).passed is False


def test_canary_missing_recipe(few):
    with pytest.raises(ValueError, match="zip"):
        spoiled(few, recipes=few.evidence.dreams.recipes[:-1])


def test_canary_nan_voxel(few):
    images = few.evidence.dreams.images.clone()
    images[2, 0, 5, 5, 5] = float("nan")
    found = spoiled(few, images=images)
    assert found.passed is False
    assert np.isnan(found.value)


@pytest.mark.parametrize(
    "fault",
    [
        {"error": 2e-5},
        {"error": float("nan")},
        {"out_of_range": 1},
        {"label_voxels": 1},
        {"mask_agreement": 0.89},
        {"mask_agreement": float("nan")},
    ],
)
def test_canary_each_fault_alone_is_not_ok(fault):
    clean = Origin(error=1e-5, out_of_range=0, label_voxels=0, mask_agreement=0.9)
    assert clean.ok(1e-5)
    assert not replace(clean, **fault).ok(1e-5)


@pytest.mark.parametrize("size", [48, 96, 160])
def test_float32_round_off_stays_within_the_tolerance(size):
    """Larger grids lose coordinate digits; sharp noise makes the most of it."""
    generator = torch.Generator().manual_seed(0)
    shape, spacing = (size, 20, 16), (1.0, 1.0, 1.5)
    image = torch.randn(1, 1, *shape, generator=generator)
    velocity = 2 * gaussian_smooth(torch.randn(1, 3, size // 4, 5, 4, generator=generator), 1.0)
    eye = identity_affine(1, 3)
    maps = SpatialTransform(eye, velocity, eye, shape, spacing)
    mask = np.ones(shape, bool)
    dream = maps.warp(image)[0, 0].numpy()
    seen = (maps.warp(torch.ones_like(image), padding="zeros") > 0.5)[0, 0].numpy()
    nothing = np.zeros(shape, np.uint8)
    found = measure_origin(
        (dream, nothing, seen),
        (image[0, 0].numpy(), nothing, mask),
        voxel_coordinates(maps.points()[0], spacing),
        1,
    )
    assert found.ok(1e-5)
    dream = dream + 5e-3 * (np.arange(dream.size) == dream.size // 2).reshape(shape)
    found = measure_origin(
        (dream, nothing, seen),
        (image[0, 0].numpy(), nothing, mask),
        voxel_coordinates(maps.points()[0], spacing),
        1,
    )
    assert not found.ok(1e-5)
