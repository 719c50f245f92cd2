"""What each arm shows its network."""

from dataclasses import replace

import pytest
import torch

from dreamorph.dreaming import AffineWarpConfig, Dreamer, ElasticWarpConfig
from dreamorph.errors import TrainingError
from dreamorph.prior import DeformationPrior
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
        SHAPE, spacing, cases[:4], prior, tuple(recipes), STILL, ElasticWarpConfig(), 1.0
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


def test_mix_puts_a_random_warp_on_top_of_every_dream(material: Material) -> None:
    quiet = replace(material, elastic=ElasticWarpConfig(energy=1e-12))
    _, dreams = drawn(quiet, "mix")
    pool = torch.cat([drawn(material, "dream", seed=seed)[1] for seed in (5, 6, 7)])
    apart = [(pool - one).square().mean() for one in dreams[:20]]
    nearest = torch.stack([(pool - one).square().flatten(1).mean(1).min() for one in dreams[:20]])
    assert nearest.max() < 1e-6 * torch.stack(apart).max()
    _, both = drawn(material, "mix")
    assert energy(both) == pytest.approx(energy(dreams) + material.strength.energy, rel=0.2)


def test_the_fraction_leaves_the_rest_unwarped(material: Material) -> None:
    _, velocity = drawn(replace(material, fraction=0.5), "elastic")
    still = [not one.any() for one in velocity]
    assert 0.25 < sum(still) / len(still) < 0.75


def test_fingerprints_follow_what_shapes_an_arm(material: Material) -> None:
    names = ("none", "classic", "elastic", "dream", "mix")
    louder = replace(material, elastic=ElasticWarpConfig(energy=2.0))
    changed = [n for n in names if louder.arm(n).fingerprint != material.arm(n).fingerprint]
    assert changed == ["elastic", "mix"]
    fewer = replace(material, recipes=material.recipes[:-1])
    changed = [n for n in names if fewer.arm(n).fingerprint != material.arm(n).fingerprint]
    assert changed == ["elastic", "dream", "mix"]
    assert len({material.arm(n).fingerprint for n in names}) == len(names)


@pytest.mark.parametrize("name", ["elastic", "dream", "mix"])
def test_without_an_accepted_dream_nothing_that_needs_one_is_made(
    material: Material, name: str
) -> None:
    bare = replace(material, recipes=())
    assert bare.arm("classic").name == "classic"
    with pytest.raises(TrainingError, match="no accepted dream"):
        bare.arm(name)
