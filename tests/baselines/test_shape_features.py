import math

import numpy as np
import pytest
import torch

from dreamorph.baselines import shape_features
from dreamorph.baselines.shape_features import otsu_threshold, surface_area
from dreamorph.spatial import points_like

SPACING = (1.0, 2.0, 0.5)


def box() -> torch.Tensor:
    """4 x 2 x 8 voxels, that is 4 x 4 x 4 mm."""
    volume = torch.zeros(1, 1, 12, 8, 16)
    volume[..., 2:6, 3:5, 4:12] = 1
    return volume


def features(volume, **kwargs):
    masks = torch.ones_like(volume, dtype=torch.bool)
    return shape_features(volume, masks, SPACING, **kwargs).iloc[0]


def test_a_cube_of_four_millimetres():
    found = features(box())
    assert found["volume_ml"] == pytest.approx(0.064)
    assert found["surface"] == pytest.approx(6 * 16)
    assert found["fill"] == pytest.approx(1)
    assert found["parts"] == 1
    assert [found[f"extent_{a}_mm"] for a in range(3)] == [4, 4, 4]
    assert [found[f"centre_{a}_mm"] for a in range(3)] == pytest.approx([-2, 0, 0])
    assert [found[f"asymmetry_{a}"] for a in range(3)] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found["compactness"] == pytest.approx(64 ** (2 / 3) / 96)


def test_principal_axes_do_not_depend_on_orientation():
    points = points_like((24, 24, 24), (1.0, 1.0, 1.0))[0]
    turned = (points[0] + points[1]) / math.sqrt(2), (points[0] - points[1]) / math.sqrt(2)
    straight = (points[0] / 9) ** 2 + (points[1] / 5) ** 2 + (points[2] / 4) ** 2 < 1
    oblique = (turned[0] / 9) ** 2 + (turned[1] / 5) ** 2 + (points[2] / 4) ** 2 < 1
    masks = torch.ones(2, 1, 24, 24, 24, dtype=torch.bool)
    images = torch.stack([straight, oblique])[:, None].float()
    found = shape_features(images, masks, (1.0, 1.0, 1.0))
    for axis, radius in enumerate((9, 5, 4)):
        # The standard deviation of a solid ellipsoid along an axis is its radius / sqrt(5).
        assert found[f"principal_{axis}_mm"].tolist() == pytest.approx(
            [radius / math.sqrt(5)] * 2, rel=0.05
        )


def test_two_parts_are_counted():
    volume = box()
    volume[..., 9:11, 6:8, 4:6] = 1
    assert features(volume)["parts"] == 2


def test_brightness_within_the_structure_and_within_the_mask():
    found = features(10 * box(), segmentations=box())
    assert found["structure_mean"] == 10
    assert found["structure_sd"] == found["structure_skewness"] == 0
    assert found["volume_mean"] == pytest.approx(10 * 64 / (12 * 8 * 16))


def test_the_mask_bounds_the_structure():
    volume = box()
    masks = torch.ones_like(volume, dtype=torch.bool)
    masks[..., 4:, :, :] = False
    found = shape_features(volume, masks, SPACING).iloc[0]
    assert found["volume_ml"] == pytest.approx(0.032)


def test_nothing_to_describe_is_finite():
    assert np.isfinite(features(torch.zeros(1, 1, 8, 8, 8))).all()
    one = torch.zeros(1, 1, 8, 8, 8)
    one[..., 4, 4, 4] = 1
    assert np.isfinite(features(one)).all()


def test_two_dimensions():
    volume = torch.zeros(1, 1, 10, 10)
    volume[..., 2:6, 2:6] = 1
    found = shape_features(volume, volume >= 0, (1.0, 2.0)).iloc[0]
    assert found["surface"] == pytest.approx(2 * 4 + 2 * 8)


def test_otsu_separates_two_groups():
    values = np.concatenate([np.full(90, -1.0), np.full(10, 3.0)])
    assert -0.5 < otsu_threshold(values) < 2.5
    assert otsu_threshold(np.ones(5)) == 1


def test_area_of_a_voxel():
    voxel = np.zeros((3, 3, 3), bool)
    voxel[1, 1, 1] = True
    assert surface_area(voxel, SPACING) == pytest.approx(2 * (2 * 0.5 + 1 * 0.5 + 1 * 2))
