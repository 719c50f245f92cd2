from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamorph.simulation import AppearanceConfig
from dreamorph.simulation.appearance import Appearance, apply_appearance, draw_appearance

PLAIN = Appearance(
    gamma=1.0,
    tissue_shifts=(0.0, 0.0, 0.0),
    log_bias=torch.zeros(1, 1, 12, 12, 12),
    noise=0.0,
    blur_voxels=0.0,
    gain=1000.0,
    crop=((0, 0), (0, 0), (0, 0)),
)


def scene():
    """Three slabs of pure fluid, grey and white matter."""
    tissues = torch.zeros(1, 3, 12, 12, 12)
    for index in range(3):
        tissues[:, index, 4 * index : 4 * index + 4] = 1
    intensity = (tissues * torch.tensor([0.3, 0.7, 0.9]).reshape(1, 3, 1, 1, 1)).sum(1, True)
    return intensity, tissues


def scan(appearance, kind="rician", seed=0):
    return apply_appearance(*scene(), appearance, kind, np.random.default_rng(seed))


def test_a_plain_scan_is_the_anatomy():
    assert torch.allclose(scan(PLAIN), 1000 * scene()[0])


def test_contrast_keeps_the_order_of_the_tissues_and_shifts_add():
    shifted = scan(replace(PLAIN, tissue_shifts=(0.0, 0.1, 0.0)))
    assert torch.allclose(shifted[:, :, 4:8], torch.tensor(800.0))
    curved = scan(replace(PLAIN, gamma=2.0))[0, 0, ::4, 0, 0]
    assert torch.allclose(curved, 1000 * torch.tensor([0.3, 0.7, 0.9]) ** 2)


def test_bias_multiplies():
    bias = torch.full((1, 1, 12, 12, 12), float(np.log(2)))
    assert torch.allclose(scan(replace(PLAIN, log_bias=bias)), 2000 * scene()[0])


def test_rician_noise_is_never_negative_and_gaussian_is_unbiased():
    noisy = replace(PLAIN, noise=0.3)
    assert scan(noisy).min() >= 0
    difference = scan(noisy, "gaussian") - 1000 * scene()[0]
    assert difference.std() == pytest.approx(300, rel=0.1)
    assert abs(difference.mean()) < 4 * 300 / 12**1.5


def test_the_same_stream_gives_the_same_scan():
    noisy = replace(PLAIN, noise=0.1)
    assert torch.equal(scan(noisy, seed=1), scan(noisy, seed=1))
    assert not torch.equal(scan(noisy, seed=1), scan(noisy, seed=2))


def test_drawn_parameters_keep_to_their_ranges():
    config = AppearanceConfig()
    generator = np.random.default_rng(0)
    drawn = [draw_appearance(config, (96.0, 112.0, 80.0), generator) for _ in range(20)]
    assert all(config.noise[0] <= a.noise <= config.noise[1] for a in drawn)
    missing = {low + high for a in drawn for low, high in a.crop}
    assert missing == {0, 2, 4}
