import pytest
import torch

from dreamorph.errors import TrainingError
from dreamorph.training import TrainingData
from dreamorph.training.data import members_at
from tests.training.fakes import balls, classification, segmentation


def test_each_member_is_shown_once_a_round():
    shown = torch.cat([members_at(step, 5, 4, seed=1) for step in range(5)])
    for start in range(0, 20, 5):
        assert sorted(shown[start : start + 5].tolist()) == [0, 1, 2, 3, 4]


def test_order_follows_from_seed_and_step():
    assert torch.equal(members_at(7, 5, 4, 1), members_at(7, 5, 4, 1))
    orders = {tuple(members_at(s, 50, 8, seed).tolist()) for s in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_task_follows_from_the_classes():
    assert segmentation().task == "segmentation"
    assert classification().task == "classification"


def test_class_weights_average_to_one_over_the_volumes():
    data = classification()
    weights = data.class_weights()
    assert torch.allclose(weights, torch.tensor([5 / 6, 5 / 4]))
    assert torch.isclose(weights[data.classes].mean(), torch.tensor(1.0))


def test_no_weights_where_classes_are_balanced_or_there_are_none():
    images, labels, masks = balls()
    balanced = TrainingData(images, labels, masks, torch.tensor([0, 1, 1, 0]), 2)
    assert balanced.class_weights() is None
    assert segmentation().class_weights() is None


def test_an_absent_class_gets_no_weight():
    images, labels, masks = balls()
    data = TrainingData(images, labels, masks, torch.tensor([0, 0, 2, 2]), 3)
    assert data.class_weights().tolist() == [1.0, 0.0, 1.0]


def test_errors_say_what_is_wrong():
    images, labels, masks = balls()
    with pytest.raises(TrainingError, match="labels have shape"):
        TrainingData(images, labels[..., 1:], masks, None, 2)
    with pytest.raises(TrainingError, match="expected at most 0"):
        TrainingData(images, labels, masks, None, 1)
    with pytest.raises(TrainingError, match="no volume"):
        TrainingData(images[:0], labels[:0], masks[:0], None, 2)
