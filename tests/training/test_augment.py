import torch

from dreamorph.training import Augmenter, IntensityConfig, TrainingData
from dreamorph.training.seeding import generator_for
from tests.training.fakes import SHAPE, FakeWarps, classification, moved, segmentation

MEMBERS = torch.tensor([2, 0, 1])


def test_identity_gives_the_members_back():
    data = segmentation()
    batch = Augmenter(data, FakeWarps())(MEMBERS, generator_for("x"))
    assert torch.allclose(batch.images, data.images[MEMBERS], atol=1e-5)
    assert torch.equal(batch.labels, data.labels[MEMBERS])
    assert torch.equal(batch.masks, data.masks[MEMBERS])
    assert torch.equal(batch.sources, MEMBERS)


def test_samples_come_from_the_sources_with_their_classes():
    data = classification()
    batch = Augmenter(data, FakeWarps(source=3))(MEMBERS, generator_for("x"))
    assert torch.allclose(batch.images, data.images[[3, 3, 3]], atol=1e-5)
    assert batch.classes.tolist() == [1, 1, 1]


def test_image_label_and_mask_move_together():
    """A shift by whole voxels moves all three exactly, and brings padding in."""
    data = segmentation()

    class Shift(FakeWarps):
        def sample(self, members, generator):
            return members, moved(len(members), torch.tensor([0.0, 0.0, 3.0]))

    batch = Augmenter(data, Shift())(MEMBERS, generator_for("x"))
    for warped, original in (
        (batch.images, data.images),
        (batch.labels, data.labels),
        (batch.masks, data.masks),
    ):
        assert torch.allclose(
            warped[..., :-3].float(), original[MEMBERS][..., 3:].float(), atol=1e-5
        )
    assert not batch.masks[..., -3:].any()
    assert not batch.labels[..., -3:].any()
    assert not batch.images[..., -3:].any()


def test_several_labels_keep_their_values():
    data = segmentation()
    labels = data.labels.clone()
    labels[..., 8:, :] *= 2
    three = TrainingData(data.images, labels, data.masks, None, 3)
    batch = Augmenter(three, FakeWarps())(MEMBERS, generator_for("x"))
    assert torch.equal(batch.labels, labels[MEMBERS])


def test_same_generator_same_batch():
    augmenter = Augmenter(segmentation(), FakeWarps(2.0, 3.0), IntensityConfig())
    one, two, other = (augmenter(MEMBERS, generator_for(k)) for k in ("a", "a", "b"))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(one.images, other.images)
    assert one.images.shape == (3, 1, *SHAPE)


def test_brightness_changes_within_the_mask_only():
    data = segmentation()
    always = IntensityConfig(**{f"{n}_probability": 1.0 for n in ("bias", "gamma", "noise")})
    batch = Augmenter(data, FakeWarps(), always)(MEMBERS, generator_for("x"))
    assert not batch.images[~batch.masks].any()
    assert (batch.images - data.images[MEMBERS])[batch.masks].abs().mean() > 0.05
    assert torch.equal(batch.labels, data.labels[MEMBERS])
