"""What each arm shows its network."""

from dataclasses import replace

import pytest
import torch

from dreamorph.dreaming import AffineWarpConfig, Dreamer, ElasticWarpConfig, LearnedWarps
from dreamorph.dreaming.strength import Strength, strength_of
from dreamorph.errors import TrainingError
from dreamorph.prior import DeformationPrior, PriorConfig
from dreamorph.spatial import gaussian_smooth
from dreamorph.training.arms import Material

SHAPE, COARSE, EXTENT = (16, 18, 14), (8, 9, 7), (32.0, 36.0, 28.0)
STILL = AffineWarpConfig(rotation_deg=0, log_scale=0, shear=0, shift_mm=0)
MEMBERS = torch.arange(4)


@pytest.fixture(scope="module")
def material() -> Material:
    noise = torch.randn(6, 3, *COARSE, generator=torch.Generator().manual_seed(0))
    fields = gaussian_smooth(noise, 2.0) * 6
    cases = tuple(f"case_{k}" for k in range(6))
    prior = DeformationPrior().fit(fields - fields.mean(0), EXTENT, members=cases)
    recipes = Dreamer(prior).recipes(12, range(4), torch.Generator().manual_seed(1))
    spacing = (2.0, 2.0, 2.0)
    return Material(
        SHAPE,
        spacing,
        cases[:4],
        (None,) * 4,
        prior,
        tuple(recipes),
        STILL,
        ElasticWarpConfig(energy=1.0),
        1.0,
    )


def drawn(material: Material, name: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sources and velocities of one large batch."""
    members = MEMBERS.repeat(16)
    sources, transform = material.arm(name).sampler.sample(
        members, torch.Generator().manual_seed(seed)
    )
    velocity = transform.velocity
    return sources, torch.zeros(len(members), 1) if velocity is None else velocity


def energy(velocity: torch.Tensor) -> float:
    return float(velocity.square().sum(1).mean())


def test_none_and_classic_do_not_warp_and_none_keeps_brightness(material: Material) -> None:
    for name in ("none", "classic"):
        sources, velocity = drawn(material, name)
        assert torch.equal(sources, MEMBERS.repeat(16))
        assert not velocity.any()
        assert material.arm(name).intensity == (name == "classic")


def test_random_warps_are_as_strong_as_the_dreams_times_their_energy(material: Material) -> None:
    _, dreamt = drawn(material, "dream")
    _, random = drawn(material, "elastic")
    assert energy(random) == pytest.approx(material.strength.energy, rel=0.15)
    assert energy(dreamt) == pytest.approx(material.strength.energy, rel=0.3)
    louder = material.with_energy(4.0)
    assert louder._dreams is material._dreams
    assert energy(drawn(louder, "elastic")[1]) == pytest.approx(4 * energy(random), rel=1e-4)


def test_learned_warps_keep_the_volume_and_are_as_strong_as_asked(material: Material) -> None:
    sources, learned = drawn(material, "learned")
    assert torch.equal(sources, MEMBERS.repeat(16))
    assert energy(learned) == pytest.approx(material.strength.energy, rel=0.3)
    louder = drawn(material.with_energy(4.0), "learned")[1]
    assert energy(louder) == pytest.approx(4 * energy(learned), rel=1e-4)
    assert learned.mean(0).square().mean() < 0.2 * learned.square().mean()


def test_learned_warps_go_where_the_population_goes() -> None:
    """Twelve members that differ along one field only: so do the warps."""
    generator = torch.Generator().manual_seed(3)
    mode = gaussian_smooth(torch.randn(1, 3, *COARSE, generator=generator), 2.0)
    noise = gaussian_smooth(torch.randn(12, 3, *COARSE, generator=generator), 2.0)
    fields = 6 * torch.randn(12, 1, 1, 1, 1, generator=generator) * mode + 0.1 * noise
    prior = DeformationPrior().fit(fields, EXTENT)
    warps = LearnedWarps(prior, prior.members, [None] * 12, SHAPE, (2.0,) * 3, 5.0)
    velocity = warps.sample(torch.arange(12), generator)[1].velocity
    assert velocity is not None
    along = (velocity * mode / mode.square().sum().sqrt()).flatten(1).sum(1).square()
    assert float((along / velocity.square().flatten(1).sum(1)).median()) > 0.8


def test_learned_warps_move_the_anatomy_where_it_lies_in_the_volume() -> None:
    """Members vary in the middle of the common space, and one lies 8 mm aside in its own grid."""
    generator = torch.Generator().manual_seed(3)
    place = [torch.arange(n) - (n - 1) / 2 for n in COARSE]
    near = sum(x.square() for x in torch.meshgrid(*place, indexing="ij")).mul(-0.5).exp()
    fields = near * torch.randn(8, 3, 1, 1, 1, generator=generator)
    poses = torch.eye(4, dtype=torch.float64).repeat(8, 1, 1)
    poses[1, 0, 3] = 8.0
    prior = DeformationPrior().fit(fields, EXTENT, poses)
    cases = [prior.members[0], prior.members[1], "nobody's"]
    warps = LearnedWarps(prior, cases, [None] * 3, SHAPE, (2.0,) * 3, 1.0)
    members = torch.tensor([0, 1, 2]).repeat_interleave(20)
    _, transform = warps.sample(members, generator)
    moved = transform.displacement().square().sum(1).reshape(3, 20, *SHAPE).mean(1)
    peaks = [float((one.sum((1, 2)) * torch.arange(SHAPE[0])).sum() / one.sum()) for one in moved]
    middle = (SHAPE[0] - 1) / 2
    assert peaks == pytest.approx([middle, middle + 8.0 / 2.0, middle], abs=0.5)


def test_dreams_are_of_the_class_of_the_volume_they_replace(material: Material) -> None:
    """A rare class is no commoner among dreams than among other samples, nor one not dreamt."""
    classes = ["a"] * 4 + ["b", "c"]
    members = list(material.prior.members)
    prior = DeformationPrior().fit(material.prior.fields, EXTENT, members=members, classes=classes)
    recipes = Dreamer(prior).recipes(20, range(5), torch.Generator().manual_seed(1))
    assert [recipe.cls for recipe in recipes].count("b") == 10
    own = replace(material, cases=tuple(members), classes=tuple(classes), prior=prior,
                  recipes=tuple(recipes))  # fmt: skip
    asked = torch.arange(6).repeat(10)
    sources, transform = own.arm("dream").sampler.sample(asked, torch.Generator().manual_seed(0))
    assert [classes[k] for k in sources.tolist()] == [classes[k] for k in asked.tolist()]
    assert set(sources[asked < 4].tolist()) == {0, 1, 2, 3}
    assert transform.velocity is not None
    # of the class without a dream each is warped around its own shape, or the warp would tell it
    assert (sources[asked == 5] == 5).all()
    assert transform.velocity.flatten(1).any(1).all()
    assert energy(transform.velocity[asked == 5]) == pytest.approx(own.strength.energy, rel=0.5)


def test_learned_warps_are_of_the_class_of_the_volume(material: Material) -> None:
    """Half of the members vary along one axis only, half along another one."""
    fields = material.prior.fields.clone()
    fields[:3, 1:], fields[3:, :2] = 0, 0
    classes = ["a"] * 3 + ["b"] * 3
    config = PriorConfig(class_pooling=1e-9)
    prior = DeformationPrior(config).fit(
        fields, EXTENT, members=list(material.prior.members), classes=classes
    )
    warps = LearnedWarps(prior, prior.members, classes, SHAPE, (2.0,) * 3, 1.0)
    _, transform = warps.sample(torch.tensor([0] * 16 + [5] * 16), torch.Generator().manual_seed(0))
    assert transform.velocity is not None
    first, last = transform.velocity.square().mean(dim=(2, 3, 4)).reshape(2, 16, 3).mean(1)
    assert first[0] > 2 * first[2]
    assert last[2] > 2 * last[0]


def test_learned_warps_of_a_class_that_the_prior_lacks_are_those_of_the_others(
    material: Material,
) -> None:
    """After failed registrations, or with few of a class held out, no member may be left of it."""
    classes = ["a", "b"] * 3
    members = list(material.prior.members)
    prior = DeformationPrior().fit(material.prior.fields, EXTENT, members=members, classes=classes)
    warps = LearnedWarps(prior, prior.members, ["c"] * 6, SHAPE, (2.0,) * 3, 1.0)
    velocity = warps.sample(torch.arange(6), torch.Generator().manual_seed(0))[1].velocity
    assert velocity is not None
    assert velocity.isfinite().all()
    assert all(one.any() for one in velocity)


def test_the_fraction_leaves_the_rest_unwarped(material: Material) -> None:
    _, velocity = drawn(replace(material, fraction=0.5), "elastic")
    still = [not one.any() for one in velocity]
    assert 0.25 < sum(still) / len(still) < 0.75


def test_fingerprints_follow_what_shapes_an_arm(material: Material) -> None:
    names = ("none", "classic", "elastic", "dream", "learned")
    louder = replace(material, elastic=ElasticWarpConfig(energy=2.0))
    changed = [n for n in names if louder.arm(n).fingerprint != material.arm(n).fingerprint]
    assert changed == ["elastic", "learned"]
    fewer = replace(material, recipes=material.recipes[:-1])
    changed = [n for n in names if fewer.arm(n).fingerprint != material.arm(n).fingerprint]
    assert changed == ["elastic", "dream", "learned"]
    coarser = replace(material, spacing_mm=(3.0, 3.0, 3.0))
    changed = [n for n in names if coarser.arm(n).fingerprint != material.arm(n).fingerprint]
    assert changed == ["classic", "elastic", "dream", "learned"]
    assert len({material.arm(n).fingerprint for n in names}) == len(names)


def test_without_an_accepted_dream_there_is_no_dream_arm_and_others_go_by_unjudged_ones(
    material: Material,
) -> None:
    bare = replace(material, recipes=())
    with pytest.raises(TrainingError, match="no accepted dream"):
        bare.arm("dream")
    for name in ("elastic", "learned"):
        assert energy(drawn(bare, name)[1]) == pytest.approx(material.strength.energy, rel=0.5)
    assert bare.with_energy(4.0).strength is bare.strength


def test_learned_warps_are_as_rough_as_random_ones(material: Material) -> None:
    """Rougher than the dreams by what is asked, both alike, and as strong as before."""
    fine = DeformationPrior(PriorConfig(wavelength_voxels=2.0))
    prior = fine.fit(material.prior.fields, EXTENT, members=material.prior.members)
    rough = replace(material, prior=prior, elastic=ElasticWarpConfig(energy=2.0, width=0.6))
    dreams = rough.strength
    want = tuple(0.6 * width for width in dreams.sigma_mm)
    found = {}
    for name in ("elastic", "learned"):
        own = torch.cat([drawn(rough, name, seed)[1] for seed in range(4)])
        found[name] = strength_of(own, EXTENT)
        assert found[name].energy == pytest.approx(2 * dreams.energy, rel=0.2)
    assert found["elastic"].sigma_mm == pytest.approx(want, rel=0.15)
    assert found["learned"].sigma_mm == pytest.approx(want, rel=0.25)
    assert max(found["learned"].sigma_mm) < 0.85 * min(dreams.sigma_mm)


def test_a_width_in_millimetres_comes_before_one_in_shares() -> None:
    dreams = Strength(3.0, (6.0, 5.0))
    assert ElasticWarpConfig(energy=2.0, width=0.5).strength(dreams) == Strength(6.0, (3.0, 2.5))
    assert ElasticWarpConfig(sigma_mm=4.0).strength(dreams).sigma_mm == (4.0, 4.0)
