import torch

from dreamorph.training import MixedWarps
from dreamorph.training.seeding import generator_for
from tests.training.fakes import FakeWarps

MEMBERS = torch.arange(64) % 4


def mixed(fraction: float):
    return MixedWarps(FakeWarps(warp_mm=3.0, source=3), FakeWarps(), fraction)


def test_none_and_all():
    sources, transform = mixed(0.0).sample(MEMBERS, generator_for("x"))
    assert torch.equal(sources, MEMBERS)
    assert not transform.velocity.any()
    sources, transform = mixed(1.0).sample(MEMBERS, generator_for("x"))
    assert (sources == 3).all()
    assert transform.velocity.flatten(1).any(dim=1).all()


def test_half_of_the_samples_are_warped():
    sources, transform = mixed(0.5).sample(MEMBERS, generator_for("x"))
    warped = transform.velocity.flatten(1).any(dim=1)
    assert 16 < int(warped.sum()) < 48
    assert torch.equal(sources, torch.where(warped, 3, MEMBERS))


def test_samplers_without_velocity_stay_without():
    plain = MixedWarps(FakeWarps(2.0), FakeWarps(), 0.5)
    _, transform = plain.sample(MEMBERS, generator_for("x"))
    moved = transform.pre[:, :3, 3].abs().sum(1) > 0
    assert transform.velocity is None
    assert 0 < int(moved.sum()) < len(MEMBERS)
