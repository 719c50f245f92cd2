import numpy as np
import pytest
import torch

from dreamorph.hallucination.features import resampled_once, shape_features
from dreamorph.spatial import points_like


def ball(radius, spacing=(1.0, 1.0, 1.0), centre=(0.0, 0.0, 0.0), shape=(32, 32, 32)):
    points = points_like(shape, spacing)[0] - torch.tensor(centre)[:, None, None, None]
    return (points.square().sum(0) < radius**2).to(torch.uint8)[None, None]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.25, 0.8)])
def test_ball(spacing):
    table, names = shape_features(ball(9.0, spacing), 1, spacing)
    assert names == ["volume_1", "surface_1"]
    assert table[0, 0] == pytest.approx(4 / 3 * np.pi * 9**3 / 1000, rel=0.02)
    assert table[0, 1] == pytest.approx(4 * np.pi * 9**2, rel=0.06)


def test_distance_of_two_balls():
    labels = torch.maximum(ball(4.0, centre=(-6.0, 0, 0)), 2 * ball(4.0, centre=(6.0, 0.0, 5.0)))
    table, names = shape_features(labels, 2, (1.0, 1.0, 1.0))
    assert names[-1] == "distance_1_2"
    assert table[0, -1] == pytest.approx(13.0, abs=0.1)


def test_absent_label_is_nan():
    table, _ = shape_features(ball(5.0), 2, (1.0, 1.0, 1.0))
    assert np.isnan(table[0, [1, 3, 4]]).all()
    assert np.isfinite(table[0, [0, 2]]).all()


def test_resampling_once_changes_neither_volume_nor_place(world):
    reals = world.evidence.reals
    again = resampled_once(reals, 0)
    before, _ = shape_features(reals.labels, 2, reals.spacing_mm)
    after, _ = shape_features(again.labels, 2, reals.spacing_mm)
    assert np.abs(after / before - 1).max() < 0.1
    assert np.abs(np.log(after / before).mean(axis=0)).max() < 0.05
    assert torch.equal(resampled_once(reals, 0).images, again.images)
    inside = again.masks & reals.masks
    assert not torch.equal(again.images[inside], reals.images[inside])
