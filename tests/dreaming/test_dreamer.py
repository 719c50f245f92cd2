"""Dreams: identities, provenance, determinism."""

import weakref
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from dreamorph.dreaming import (
    AffineWarpConfig,
    AffineWarps,
    Dreamer,
    DreamWarps,
    ElasticWarps,
    IdentityWarps,
    samplers,
)
from dreamorph.dreaming.dreams import recipes_from_table, recipes_to_table
from dreamorph.dreaming.samplers import random_affine
from dreamorph.dreaming.strength import Strength, strength_of
from dreamorph.errors import DreamError
from dreamorph.prior import DeformationPrior
from dreamorph.spatial import SpatialTransform, affine_exp, gaussian_smooth
from dreamorph.spatial.affine import with_rigid_part

DREAMER = "dreamorph.dreaming.dreamer"
SHAPE, COARSE, EXTENT = (16, 18, 14), (8, 9, 7), (32.0, 36.0, 28.0)


def make_prior(n: int = 6, classes: list[str | None] | None = None) -> DeformationPrior:
    generator = torch.Generator().manual_seed(0)
    fields = gaussian_smooth(torch.randn(n, 3, *COARSE, generator=generator), 2.0) * 6
    logs = torch.zeros(n, 4, 4, dtype=torch.float64)
    logs[:, :3] = 0.05 * torch.randn(n, 3, 4, generator=generator, dtype=torch.float64)
    names = [f"case_{k}" for k in range(n)]
    return DeformationPrior().fit(
        fields - fields.mean(0), EXTENT, affine_exp(logs), names, names, classes
    )


def make_volumes(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = gaussian_smooth(torch.randn(n, 1, *SHAPE, generator=generator), 1.5)
    labels = (images > 0.05).byte() + (images > 0.15).byte()
    return images, labels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n", "count"), [(0, 6), (3, 7), (3, 0)])
def test_what_cannot_be_dreamed_is_one_clear_line(n: int, count: int) -> None:
    """No dream at all, more volumes than the prior has members, or none."""
    images, labels = make_volumes(count or 1)
    with pytest.raises(DreamError, match="expected at least one dream, of volumes of the prior's"):
        Dreamer(make_prior()).dream(images[:count], labels[:count], n)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"volumes": torch.zeros(6, 3, *SHAPE), "labels": torch.zeros(6, 3, *SHAPE)}, r"\(N, 1, "),
        ({"volumes": torch.zeros(6, 1, 16, 18), "labels": torch.zeros(6, 1, 16, 18)}, "3 axes"),
        ({"labels": None}, "expected labels as a tensor, got NoneType: where there are none"),
        ({"labels": torch.full((6, 1, *SHAPE), 0.5)}, "labels that are whole numbers"),
        ({"labels": torch.full((6, 1, *SHAPE), float("nan"))}, "labels that are whole numbers"),
        ({"masks": torch.ones(6, 1, 8, 9, 7)}, r"masks \(6, 1, 8, 9, 7\) must have the shape"),
        ({"masks": torch.ones(6, 3, *SHAPE)}, r"masks \(6, 3, .* must have the shape"),
        ({"masks": torch.ones(1, 1, *SHAPE)}, r"masks \(1, 1, .* must have the shape"),
        ({"members": [0, 1, 2, 3, 4, 6]}, "member 6 is none of them"),
        ({"members": [0, 1, 2, 3, 4, -1]}, "member -1 is none of them"),
        ({"members": [f"case_{k}" for k in range(6)]}, "member 'case_0' is none .* positions"),
        ({"generator": 3}, r"expected a torch\.Generator, got 3"),
    ],
)
def test_what_does_not_fit_the_prior_is_one_clear_line(given: dict[str, Any], message: str) -> None:
    images, labels = make_volumes()
    with pytest.raises(DreamError, match=message):
        Dreamer(make_prior()).dream(**({"volumes": images, "labels": labels, "n": 2} | given))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_volumes_that_are_not_finite_are_refused_also_outside_their_masks(value: float) -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    masks = torch.ones_like(labels)
    images[5, 0, 0, 0, 0], masks[..., 0, 0, 0] = value, 0
    recipes = Dreamer(prior).recipes(2, range(6), generator())
    with pytest.raises(DreamError, match="not finite: replace them, also outside the masks"):
        Dreamer(prior).replay(images, labels, recipes, masks=masks)


def test_labels_of_sixteen_bits_keep_their_type() -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    recipes = Dreamer(prior).recipes(3, range(6), generator())
    plain = Dreamer(prior).replay(images, labels, recipes).labels
    wide = Dreamer(prior).replay(images, (labels.int() * 300).to(torch.uint16), recipes).labels
    assert wide.dtype == torch.uint16
    assert torch.equal(wide.int(), plain.int() * 300)
    small = Dreamer(prior).replay(images, labels.to(torch.uint16), recipes).labels
    assert small.dtype == torch.uint8
    assert torch.equal(small, plain)


def test_the_same_generator_dreams_the_same() -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    first = Dreamer(prior).dream(images, labels, 5, generator=generator())
    again = Dreamer(prior).dream(images, labels, 5, generator=generator())
    other = Dreamer(prior).dream(images, labels, 5, generator=generator(1))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)


def test_a_dream_is_drawn_once_and_recipes_keep_no_field(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    draw, drawn, alive = prior.draw, [], []

    def watched(*arguments: Any) -> Any:
        found = draw(*arguments)
        drawn.append(weakref.ref(found.field))
        alive.append(sum(field() is not None for field in drawn))
        return found

    monkeypatch.setattr(prior, "draw", watched)
    Dreamer(prior).dream(images, labels, 5, generator=generator())
    assert alive == [1, 2, 3, 4, 5]
    assert not any(field() is not None for field in drawn)
    alive.clear()
    Dreamer(prior).recipes(5, range(6), generator())
    assert len(alive) == 5
    assert max(alive) <= 2


def test_a_recipe_replays_its_dream_bit_for_bit_even_from_csv(tmp_path: object) -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    dreams = Dreamer(prior).dream(images[:4], labels[:4], 6, generator=generator())
    table = pd.read_csv(pd.io.common.StringIO(recipes_to_table(dreams.recipes).to_csv(index=False)))
    recipes = recipes_from_table(table)
    assert tuple(recipes) == dreams.recipes
    again = Dreamer(prior).replay(images[:4], labels[:4], recipes)
    assert torch.equal(dreams.images, again.images)
    one = Dreamer(prior).replay(images[:4], labels[:4], recipes[2:3])
    assert torch.allclose(dreams.images[2:3], one.images, atol=1e-6)


def test_a_recipe_of_another_prior_or_volume_is_refused() -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    dreams = Dreamer(prior).dream(images, labels, 6, generator=generator())
    other = [replace(recipe, prior="another") for recipe in dreams.recipes]
    with pytest.raises(DreamError, match="recipes of the prior another cannot be replayed"):
        Dreamer(prior).replay(images, labels, other)
    with pytest.raises(DreamError, match="the source of a recipe, was not given"):
        Dreamer(prior).replay(images[:1], labels[:1], dreams.recipes, members=[0])


def test_a_dream_of_the_source_itself_is_the_source() -> None:
    """With the drawn target at the source's own place, the chain is the identity."""
    prior = make_prior()
    dreamer = Dreamer(prior)
    recipes = dreamer.recipes(3, [2], generator())
    transform = dreamer.transforms(recipes, SHAPE)
    draws = [prior.draw(r.seed) for r in recipes]
    fields = torch.stack([d.field for d in draws])
    expected = prior.fields[2] - fields
    assert torch.equal(transform.velocity, expected)
    own = transform.velocity * 0
    assert torch.equal(own, prior.fields[[2, 2, 2]] - prior.fields[2])
    assert torch.allclose(transform.post[0], prior.affines[2])
    drawn = torch.linalg.inv(transform.pre[0])
    stretch = [a[:3, :3].T @ a[:3, :3] for a in (drawn, draws[0].affine)]
    assert torch.allclose(*stretch, atol=1e-9)


def test_a_dream_has_the_size_of_the_drawn_subject_in_the_pose_of_its_source() -> None:
    turn = affine_exp(torch.tensor([[[0.0, 0.3, 0], [-0.3, 0, 0], [0, 0, 0]]]))
    pose = turn.clone()
    pose[0, :2, 2] = torch.tensor([4.0, -2.0], dtype=torch.float64)
    stretch = torch.diag(torch.tensor([1.2, 0.9, 1.0], dtype=torch.float64))[None]
    other = affine_exp(torch.tensor([[[0.0, -0.5, 9], [0.5, 0, 9], [0, 0, 0]]])) @ stretch
    found = with_rigid_part(other, pose)
    assert torch.allclose(found, pose @ stretch, atol=1e-12)
    assert torch.allclose(with_rigid_part(pose @ stretch, pose @ stretch), pose @ stretch)


def test_sources_come_up_evenly_and_keep_their_class() -> None:
    classes: list[str | None] = ["a", "a", "a", "a", "b", "b"]
    prior = make_prior(classes=classes)
    recipes = Dreamer(prior).recipes(24, [0, 1, 2, 4, 5], generator())
    counts = pd.Series([r.source for r in recipes]).value_counts()
    assert counts.to_dict() == {"case_0": 4, "case_1": 4, "case_2": 4, "case_4": 6, "case_5": 6}
    by_name = dict(zip(prior.members, classes, strict=True))
    assert all(r.cls == by_name[r.source] for r in recipes)


def test_labels_move_with_the_image() -> None:
    """An image that shows its own label: the dreamed image must show the dreamed label."""
    prior, (_, labels) = make_prior(), make_volumes()
    dreams = Dreamer(prior).dream((labels == 1).float(), labels, 6, generator=generator())
    agree = ((dreams.images > 0.5) == (dreams.labels == 1)).float().mean()
    assert agree > 0.97


def test_labels_of_any_number_are_dreamed_in_as_many_channels_as_there_are() -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    recipes = Dreamer(prior).recipes(4, range(6), generator())
    plain = Dreamer(prior).replay(images, labels, recipes)
    assert plain.labels.dtype == torch.uint8
    for factor in (60, 300, 2**24 + 1):
        numbered = torch.where(labels > 0, labels.int() * factor, 0)
        dreams = Dreamer(prior).replay(images, numbered, recipes)
        assert torch.equal(dreams.labels.long(), plain.labels.long() * factor)
    with pytest.raises(DreamError, match="is it an image"):
        Dreamer(prior).replay(images, (images * 1e4).int(), recipes)


def test_dreams_are_made_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    masks = torch.zeros_like(labels, dtype=torch.bool)
    masks[..., 3:13, 3:15, 3:11] = True
    recipes = Dreamer(prior).recipes(5, range(6), generator())
    at_once, found = [], []
    warp = SpatialTransform.warp_with_labels

    def watched(self: SpatialTransform, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        at_once.append(len(self))
        return warp(self, *given)

    monkeypatch.setattr(SpatialTransform, "warp_with_labels", watched)
    for size in (5, 2):
        monkeypatch.setattr(f"{DREAMER}.batch_size", lambda *_, size=size, **__: size)
        found.append(Dreamer(prior).replay(images, labels, recipes, masks=masks))
    assert at_once == [5, 2, 2, 1]
    for name in ("images", "labels", "masks"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name))


def test_outside_the_mask_there_is_nothing() -> None:
    prior, (images, labels) = make_prior(), make_volumes()
    masks = torch.zeros_like(labels, dtype=torch.bool)
    masks[..., 3:13, 3:15, 3:11] = True
    dreams = Dreamer(prior).dream(images + 5, labels, 4, generator=generator(), masks=masks)
    assert (dreams.images[~dreams.masks] == 0).all()
    assert (dreams.labels[~dreams.masks] == 0).all()
    assert 0.1 < dreams.masks.float().mean() < 0.9
    # however the mask says true, and whether or not the sources have a label 0
    white = Dreamer(prior).dream(
        images + 5, labels + 5, 4, generator=generator(), masks=masks.byte() * 255
    )
    assert torch.equal(white.masks, dreams.masks)
    assert torch.equal(white.images, dreams.images)
    assert torch.equal(white.labels, torch.where(dreams.masks, dreams.labels + 5, 0))


def test_a_source_without_a_class_is_refused_where_there_are_classes() -> None:
    prior = make_prior(classes=["a", "a", "a", "b", "b", None])
    with pytest.raises(DreamError, match="case_5 has class None"):
        Dreamer(prior).recipes(2, [5], generator())


def test_elastic_warps_have_the_energy_asked_for() -> None:
    warps = ElasticWarps(SHAPE, (2.0, 2.0, 2.0), COARSE, Strength(4.0, (5.0,) * 3))
    _, transform = warps.sample(torch.zeros(200, dtype=torch.long), generator())
    assert transform.velocity is not None
    energy = transform.velocity.square().sum(1).mean()
    assert energy == pytest.approx(4.0, rel=0.1)


def test_dream_warps_draw_from_the_accepted_only() -> None:
    prior = make_prior()
    dreamer = Dreamer(prior)
    recipes = dreamer.recipes(4, [1, 3], generator())
    rows = ["case_3", "case_1"]
    warps = DreamWarps(dreamer, recipes, rows, [None] * 2, SHAPE, fraction=0.5)
    members = torch.zeros(40, dtype=torch.long)
    sources, transform = warps.sample(members, generator())
    still = (transform.pre == torch.eye(4)).all(dim=2).all(dim=1)
    assert 5 < int(still.sum()) < 35
    assert (sources[still] == 0).all()
    assert {int(s) for s in sources[~still]} == {0, 1}
    with pytest.raises(DreamError, match="no accepted dream"):
        DreamWarps(dreamer, [], rows, [None] * 2, SHAPE)


def test_affine_maps_stay_in_their_range_and_keep_the_warp() -> None:
    config = AffineWarpConfig(rotation_deg=10, log_scale=0.1, shear=0.0, shift_mm=2.0)
    matrices = random_affine(500, 3, config, generator())
    determinant = torch.linalg.det(matrices)
    assert determinant.log().abs().max() <= 0.3 + 1e-9
    assert determinant.log().abs().max() > 0.15
    assert matrices[:, :3, 3].abs().max() < 3.0
    inner = ElasticWarps(SHAPE, (2.0, 2.0, 2.0), COARSE, Strength(4.0, (8.0,) * 3))
    members = torch.arange(3)
    sources, moved = AffineWarps(inner, config).sample(members, generator())
    _, bare = inner.sample(members, generator())
    assert torch.equal(sources, members)
    assert torch.equal(moved.velocity, bare.velocity)
    assert not torch.equal(moved.pre, bare.pre)


def test_identity_warps_change_nothing() -> None:
    images, _ = make_volumes()
    sources, transform = IdentityWarps(SHAPE, (2.0, 2.0, 2.0)).sample(torch.arange(6), generator())
    assert torch.allclose(transform.warp(images[sources]), images, atol=1e-5)


def test_random_warps_are_as_strong_and_as_rough_as_what_was_measured() -> None:
    shape = (24, 32, 24)
    extent = (48.0, 64.0, 48.0)
    warps = ElasticWarps(
        (48, 64, 48),
        (1.0, 1.0, 1.0),
        shape,
        Strength(3.0, (6.0,) * 3),
    )
    velocities = warps.sample(torch.arange(40), generator())[1].velocity
    assert velocities is not None
    found = strength_of(velocities, extent)
    assert found.energy == pytest.approx(3.0, rel=0.1)
    assert found.sigma_mm == pytest.approx((6.0,) * 3, rel=0.1)
    assert strength_of([], extent).energy == 0
    flat = strength_of(velocities[:, :, :1], (2.0, 64.0, 48.0))
    assert flat.sigma_mm == pytest.approx((2.0, 6.0, 6.0), rel=0.15)


def test_random_warps_are_as_rough_along_every_axis_of_thick_slices() -> None:
    """One width for all axes is that of the thick ones, and too smooth within a slice."""
    shape, spacing, coarse = (128, 128, 24), (0.8, 0.8, 3.6), (64, 64, 12)
    extent = tuple(n * s for n, s in zip(shape, spacing, strict=True))
    noise = torch.randn(16, 3, *coarse, generator=generator())
    dreams = strength_of(gaussian_smooth(noise, 2.0), extent)
    warps = ElasticWarps(shape, spacing, coarse, dreams)
    velocities = warps.sample(torch.arange(16), generator())[1].velocity
    assert velocities is not None
    assert dreams.sigma_mm == pytest.approx((3.2, 3.2, 14.4), rel=0.15)
    assert strength_of(velocities, extent).sigma_mm == pytest.approx(dreams.sigma_mm, rel=0.15)


def test_a_pool_shows_the_same_dreams_whether_its_maps_are_kept_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prior = make_prior()
    dreamer = Dreamer(prior)
    recipes = dreamer.recipes(5, [0, 1, 2], generator())
    warps = DreamWarps(dreamer, recipes, prior.members, prior.classes, SHAPE)
    members = torch.arange(3)
    first = warps.sample(members, torch.Generator().manual_seed(4))[1]
    kept = warps.sample(members, torch.Generator().manual_seed(4))[1]
    monkeypatch.setattr(samplers, "POOL_BYTES", 0)
    fresh = DreamWarps(dreamer, recipes, prior.members, prior.classes, SHAPE)
    drawn = fresh.sample(members, torch.Generator().manual_seed(4))[1]
    for other in (kept, drawn):
        assert torch.equal(first.points(), other.points())
    assert not fresh._drawn


def test_what_was_drawn_with_the_recipes_is_not_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prior = make_prior()
    dreamer = Dreamer(prior)
    pool = list(dreamer.drawn(5, [0, 1, 2], generator()))
    recipes, draws = [recipe for recipe, _ in pool], [draw for _, draw in pool]
    assert recipes == dreamer.recipes(5, [0, 1, 2], generator())
    members = torch.arange(3)

    def shown(warps: DreamWarps) -> torch.Tensor:
        return warps.sample(members, torch.Generator().manual_seed(4))[1].points()

    again = shown(DreamWarps(dreamer, recipes, prior.members, prior.classes, SHAPE))
    monkeypatch.setattr(DeformationPrior, "draw", None)
    given = DreamWarps(dreamer, recipes, prior.members, prior.classes, SHAPE, draws=draws)
    assert torch.equal(shown(given), again)


@pytest.mark.gpu
def test_dreams_made_on_a_gpu_are_those_made_on_the_cpu() -> None:
    prior = make_prior()
    images, labels = make_volumes()
    dreamer = Dreamer(prior)
    recipes = dreamer.recipes(6, range(6), generator())
    here = dreamer.replay(images, labels, recipes)
    there = dreamer.replay(images.cuda(), labels.cuda(), recipes)
    assert there.images.is_cuda
    assert torch.allclose(here.images, there.images.cpu(), atol=1e-4)
    assert (here.labels != there.labels.cpu()).float().mean() < 1e-3
