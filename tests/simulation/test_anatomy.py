import socket

import numpy as np
import pytest
import torch
from scipy import ndimage

from dreamorph.simulation import LABEL_NAMES
from dreamorph.simulation.anatomy import load_anatomy

#: Volumes of both sides together in adults, generous; mm^3.
PLAUSIBLE_MM3 = {1: (8e3, 40e3), 2: (10e3, 22e3), 3: (5e3, 12e3), 4: (5e3, 13e3)}
PARTS = {1: 1, 2: 2, 3: 2, 4: 2}


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return load_anatomy().labels[0, 0].numpy()


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the anatomy asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_anatomy.__wrapped__()


@pytest.mark.parametrize("index", sorted(LABEL_NAMES))
def test_structures_have_plausible_volumes(labels, index):
    low, high = PLAUSIBLE_MM3[index]
    assert low < (labels == index).sum() < high


@pytest.mark.parametrize("index", sorted(LABEL_NAMES))
def test_structures_are_simple_bodies(labels, index):
    mask = labels == index
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == PARTS[index]
    assert (ndimage.binary_fill_holes(mask) == mask).all()


@pytest.mark.parametrize("index", [2, 3, 4])
def test_structures_lie_on_both_sides(labels, index):
    """The template is symmetric: its middle plane is the middle of the grid."""
    mask = labels == index
    middle = labels.shape[0] // 2
    left, right = mask[:middle].sum(), mask[middle + 1 :].sum()
    assert abs(int(left) - int(right)) < 0.02 * (left + right)


def test_ventricles_are_fluid_and_the_darkest():
    anatomy = load_anatomy()
    ventricles = anatomy.labels == 1
    assert anatomy.tissues[:, :1][ventricles].mean() > 0.7
    means = [float(anatomy.intensity[anatomy.labels == index].mean()) for index in LABEL_NAMES]
    assert means[0] == min(means)


def test_tissues_are_probabilities():
    tissues = load_anatomy().tissues
    assert tissues.min() >= 0
    assert torch.all(tissues.sum(dim=1) <= 1 + 1e-5)
