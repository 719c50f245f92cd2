import contextlib

import pytest
import torch

from dreamorph.dreaming import AffineWarpConfig
from dreamorph.errors import TrainingError
from dreamorph.spatial import gaussian_smooth
from dreamorph.training import TrainingConfig, Views, build_network, network_spec, predict
from dreamorph.training.networks import PaddedNetwork

CONFIG = TrainingConfig(channels=(4, 8, 8))


@pytest.fixture
def network():
    return build_network(network_spec(CONFIG, 1, 3, "segmentation"))


class Pointwise(torch.nn.Module):
    """Logits that depend on each voxel alone."""

    def forward(self, images):
        return torch.cat([images, -images, images**2], dim=1)


def test_probabilities_sum_to_one_at_another_size(network):
    images = torch.randn(2, 1, 18, 11, 15, generator=torch.Generator().manual_seed(0))
    found = predict(network, images)
    assert found.shape == (2, 3, 18, 11, 15)
    assert torch.allclose(found.sum(1), torch.ones(2, 18, 11, 15), atol=1e-5)


def test_background_is_certain_outside_the_mask(network):
    images, masks = torch.randn(1, 1, 12, 12, 12), torch.ones(1, 1, 12, 12, 12, dtype=torch.bool)
    masks[..., :4] = False
    found = predict(network, images, masks)
    assert (found[:, 0, ..., :4] == 1).all()
    assert (found[:, 1:, ..., :4] == 0).all()
    assert (found[:, 1:, ..., 4:] > 0).all()


def test_classes_are_predicted():
    config = CONFIG.model_copy(update={"network": "densenet"})
    network = build_network(network_spec(config, 1, 4, "classification"))
    found = predict(network, torch.randn(3, 1, 16, 16, 16))
    assert found.shape == (3, 4)
    assert torch.allclose(found.sum(1), torch.ones(3))


def test_a_volume_larger_than_those_of_training_is_seen_whole():
    """In parts, normalisation would see other means than in training."""
    seen = []

    class Watched(Pointwise):
        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return super().forward(x)

    predict(PaddedNetwork(Watched(), 4, dense=True), torch.zeros(1, 1, 176, 168, 160))
    assert seen == [(176, 168, 160)]


@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_the_device_asked_for_is_taken(network, monkeypatch, asked):
    """A GPU that is full or broken is left alone."""
    moved = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(network, "to", lambda place: moved.append(torch.device(place).type))
    with contextlib.suppress(AssertionError, RuntimeError):
        predict(network, torch.zeros(1, 1, 8, 8, 8), device=asked)
    assert moved[0] == ("cpu" if asked == "cpu" else "cuda")


def test_a_gpu_that_is_not_there_is_one_line(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="no GPU: use auto or cpu"):
        predict(network, torch.zeros(1, 1, 8, 8, 8), device="cuda")


def test_the_mode_of_the_network_is_restored(network):
    for mode in (True, False):
        network.train(mode)
        predict(network, torch.zeros(1, 1, 8, 8, 8))
        assert network.training is mode


def test_answers_of_all_views_are_brought_home():
    """Where each voxel's answer depends on its brightness alone, a view may change nothing."""
    noise = torch.randn(1, 1, 24, 22, 20, generator=torch.Generator().manual_seed(0))
    image = gaussian_smooth(noise, 2.5) * 20
    views = Views.draw(6, AffineWarpConfig(rotation_deg=25.0, shift_mm=3.0), (1.0, 1.2, 1.5))
    network = PaddedNetwork(Pointwise(), 4, dense=True)
    plain, averaged = predict(network, image), predict(network, image, views=views)
    assert torch.allclose(averaged.sum(1), torch.ones(1, 24, 22, 20), atol=1e-4)
    inner = (..., *[slice(4, -4)] * 3)
    assert (plain - averaged)[inner].abs().mean() < 0.02


def test_what_a_view_does_not_show_has_no_vote(network):
    image, mask = torch.randn(1, 1, 16, 16, 16), torch.ones(1, 1, 16, 16, 16, dtype=torch.bool)
    away = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    away[:, 0, 3] = 100.0
    views = Views(away, (1.0, 1.0, 1.0))
    assert torch.equal(predict(network, image, mask, views=views), predict(network, image, mask))


def test_classes_are_asked_for_once():
    config = CONFIG.model_copy(update={"network": "densenet"})
    network = build_network(network_spec(config, 1, 4, "classification"))
    volume = torch.randn(1, 1, 16, 16, 16)
    views = Views.draw(2, AffineWarpConfig(), (1.0, 1.0, 1.0))
    assert torch.equal(predict(network, volume, views=views), predict(network, volume))
