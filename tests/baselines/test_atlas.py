import pytest
import torch
from pydantic import ValidationError

from dreamorph.baselines import Atlases, FusionConfig, atlas, fuse, local_correlation
from dreamorph.errors import CohortError
from dreamorph.registration import AffineConfig, RegistrationConfig, VelocityConfig
from dreamorph.spatial import gaussian_smooth, points_like

SHAPE, SPACING = (16, 16, 16), (1.0, 1.0, 1.0)
QUICK = FusionConfig(
    registration=RegistrationConfig(
        affine=AffineConfig(levels=(2,), iterations=(15,)),
        velocity=VelocityConfig(levels=(2,), iterations=(15,), factor=2),
    )
)
STILL = FusionConfig(registration=RegistrationConfig(affine=None, velocity=None))


def test_what_is_given_of_the_registration_leaves_the_rest_quick():
    quick = FusionConfig().registration
    assert (quick.velocity.levels, quick.velocity.factor) == ((4, 2), 4)
    given = FusionConfig(registration={"device": "cpu"}).registration
    assert given == quick.model_copy(update={"device": "cpu"})
    levels = {"levels": [2], "iterations": [5]}
    some = FusionConfig(registration={"velocity": levels}).registration.velocity
    assert (some.levels, some.iterations, some.factor) == ((2,), (5,), 4)
    more = FusionConfig(registration={"velocity": {"iterations": [60, 60]}}).registration.velocity
    assert (more.levels, more.iterations, more.factor) == ((4, 2), (60, 60), 4)
    with pytest.raises(ValidationError, match=r"levels \(4, 2\)"):
        FusionConfig(registration={"velocity": {"iterations": [60, 60, 60]}})
    named = FusionConfig(registration={"preset": "accurate"}).registration
    assert named == RegistrationConfig(preset="accurate")
    assert FusionConfig(registration={"velocity": None}).registration.velocity is None


def patients(radii, shift=0.0):
    """A bright shell around a dark core, labelled 1 and 2; smooth, with a little noise."""
    points = points_like(SHAPE, SPACING) - shift
    distance = points.square().sum(1, keepdim=True).sqrt()
    labels = torch.cat([(distance < r).long() + (distance < 0.6 * r).long() for r in radii])
    clean = torch.tensor([0.0, 2.0, -1.0])[labels]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(len(radii)))
    masks = torch.ones_like(labels, dtype=torch.bool)
    return gaussian_smooth(clean, 0.6) + 0.05 * noise, labels.to(torch.uint8), masks


def dice(found, true, label):
    found, true = found == label, true == label
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


@pytest.fixture(scope="module")
def atlases():
    return Atlases(*patients([4.0, 5.5, 6.0]), n_labels=2)


def test_a_vote_finds_both_labels(atlases):
    images, labels, masks = patients([5.0], shift=1.5)
    (found,) = fuse(images, masks, atlases, SPACING, QUICK)
    assert found.shape == (1, 3, *SHAPE)
    assert torch.allclose(found.sum(1), torch.ones(1, *SHAPE), atol=1e-5)
    for label in (1, 2):
        assert dice(found.argmax(1), labels[:, 0], label) > 0.85


def test_registration_is_what_makes_it_work(atlases):
    images, labels, masks = patients([5.0], shift=1.5)
    (found,) = fuse(images, masks, atlases, SPACING, STILL)
    assert dice(found.argmax(1), labels[:, 0], 1) < 0.75


def test_the_atlas_that_fits_wins(atlases):
    """Without registration: one atlas is the target itself, the others are far off."""
    images, labels, masks = patients([6.0])
    own = Atlases(*(torch.cat([v, w]) for v, w in zip(
        (images, labels, masks), patients([3.0, 3.2, 3.4], shift=2.0), strict=True
    )), n_labels=2)  # fmt: skip
    config = STILL.model_copy(update={"power": 8.0})
    (found,) = fuse(images, masks, own, SPACING, config)
    flat = STILL.model_copy(update={"power": 0.0})
    (majority,) = fuse(images, masks, own, SPACING, flat)
    scores = [dice(p.argmax(1), labels[:, 0], 1) for p in (found, majority)]
    assert scores[0] > scores[1] + 0.1


def test_targets_do_not_depend_on_each_other(atlases):
    images, _, masks = patients([5.0, 4.5, 5.8])
    together = torch.cat(list(fuse(images, masks, atlases, SPACING, QUICK)))
    alone = torch.cat(list(fuse(images[2:], masks[2:], atlases, SPACING, QUICK)))
    assert torch.allclose(together[2:], alone, atol=1e-3)


def test_outside_the_target_is_background(atlases):
    images, _, masks = patients([5.0])
    masks[..., :8] = False
    (found,) = fuse(images, masks, atlases, SPACING, STILL)
    assert (found[:, 0, ..., :8] == 1).all()
    assert (found[:, 1:, ..., :8] == 0).all()


def test_padding_of_an_atlas_does_not_vote():
    """Where one atlas has no content, the other one decides alone."""
    images, labels, masks = patients([6.0])
    torn = masks.clone()
    torn[..., :8] = False
    two = Atlases(
        torch.cat([images, images * torn]),
        torch.cat([labels, labels * torn]),
        torch.cat([masks, torn]),
        n_labels=2,
    )
    config = STILL.model_copy(update={"power": 0.0})
    (found,) = fuse(images, masks, two, SPACING, config)
    assert dice(found.argmax(1), labels[:, 0], 1) == 1


def test_at_most_so_many_atlases(atlases):
    images, _, masks = patients([5.0])
    config = STILL.model_copy(update={"max_atlases": 1})
    (found,) = fuse(images, masks, atlases, SPACING, config)
    (first,) = fuse(images, masks, atlases[:1], SPACING, STILL)
    assert torch.equal(found, first)


def test_no_atlas_is_an_error(atlases):
    images, _, masks = patients([5.0])
    with pytest.raises(CohortError, match="no atlas"):
        next(fuse(images, masks, atlases[:0], SPACING))


def test_local_correlation_of_known_relations():
    images, _, masks = patients([5.0])
    inside = masks.float()
    for moved, expected in ((3 * images + 1, 1.0), (-images, -1.0)):
        found = local_correlation(images, moved, inside, 5)
        centre = found[..., 5:11, 5:11, 5:11]
        assert torch.allclose(centre, torch.full_like(centre, expected), atol=0.05)
    assert not local_correlation(images, torch.zeros_like(images), inside, 5).any()


def test_local_correlation_is_that_of_numpy_within_the_mask():
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(1, 1, 7, 7, 7, generator=generator) for _ in range(2))
    inside = (torch.rand(1, 1, 7, 7, 7, generator=generator) > 0.3).float()
    window = inside[..., 1:6, 1:6, 1:6] > 0
    expected = torch.corrcoef(torch.stack([v[..., 1:6, 1:6, 1:6][window] for v in (one, two)]))[
        0, 1
    ]
    found = local_correlation(one, two, inside, 5)[0, 0, 3, 3, 3]
    assert torch.isclose(found, expected, atol=2e-3)


def test_how_many_atlases_fit_at_a_time_changes_nothing(atlases, monkeypatch):
    images, _, masks = patients([5.0])
    (together,) = fuse(images, masks, atlases, SPACING, QUICK)
    monkeypatch.setattr(atlas, "batch_size", lambda *_, **__: 1)
    (apart,) = fuse(images, masks, atlases, SPACING, QUICK)
    assert len(atlases) > 1
    assert torch.allclose(together, apart, atol=1e-3)
    assert torch.allclose(together.sum(1), torch.ones(()), atol=1e-5)
