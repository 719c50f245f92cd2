import pytest
import torch

from dreamorph.errors import TrainingError
from dreamorph.training import TrainingConfig, build_network, network_spec
from dreamorph.training.networks import NETWORKS
from dreamorph.training.seeding import seeded

CONFIG = TrainingConfig(channels=(4, 8, 8))


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 13, 22), (3, 40, 9)])
def test_unet_takes_any_size(shape):
    network = build_network(network_spec(CONFIG, 1, 3, "segmentation"))
    assert network(torch.zeros(2, 1, *shape)).shape == (2, 3, *shape)


@pytest.mark.parametrize("name", ["densenet", "resnet"])
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 13, 22)])
def test_classifiers_take_any_size(name, shape):
    config = CONFIG.model_copy(update={"network": name})
    network = build_network(network_spec(config, 1, 4, "classification"))
    assert network(torch.zeros(2, 1, *shape)).shape == (2, 4)


def test_two_dimensions():
    network = build_network(network_spec(CONFIG, 1, 3, "segmentation", ndim=2))
    assert network(torch.zeros(2, 1, 17, 13)).shape == (2, 3, 17, 13)


def test_padding_keeps_voxels_in_place():
    """With an identity inside, the padded network is the identity at any size."""
    network = build_network(network_spec(CONFIG, 1, 3, "segmentation"))
    network.network = torch.nn.Identity()
    image = torch.randn(1, 1, 5, 18, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(image), image)


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    spec = network_spec(CONFIG, 1, 3, "segmentation")
    before = torch.random.get_rng_state()
    with seeded(3):
        one = build_network(spec)
    with seeded(3):
        two = build_network(spec)
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("task", "network"), [("segmentation", "resnet"), ("classification", "unet")]
)
def test_a_network_that_does_not_do_the_task_is_refused(task, network):
    with pytest.raises(TrainingError, match=f"{network}.*does not do {task}"):
        network_spec(CONFIG.model_copy(update={"network": network}), 1, 2, task)


def test_dropout_reaches_every_network():
    for name in NETWORKS:
        task = "segmentation" if name == "unet" else "classification"
        config = CONFIG.model_copy(update={"network": name, "dropout": 0.5})
        network = build_network(network_spec(config, 1, 2, task))
        rates = [
            m.p for m in network.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)
        ]
        assert rates
        assert set(rates) == {0.5}
