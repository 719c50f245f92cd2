"""Separable filters against their definitions."""

import pytest
import torch
from torch.nn import functional

from dreamorph.spatial import box_mean, gaussian_smooth


@pytest.mark.parametrize("stride", [1, 2])
def test_box_mean_is_average_pooling(stride: int) -> None:
    volume = torch.randn(2, 3, 9, 8, 7)
    expected = functional.avg_pool3d(volume, 5, stride=1, padding=2)[..., ::1, ::1, ::1]
    start = (stride - 1) // 2
    expected = expected[..., start::stride, start::stride, start::stride]
    assert torch.allclose(box_mean(volume, 5, stride), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 30), (5, 9, 12)])
def test_smoothing_keeps_constants_and_the_total(shape: tuple[int, ...]) -> None:
    constant = torch.full((1, 2, *shape), 3.0)
    assert torch.allclose(gaussian_smooth(constant, 2.5), constant, atol=1e-5)
    noise = torch.randn(1, 2, *shape)
    assert torch.allclose(gaussian_smooth(noise, 1.5).sum(), noise.sum(), atol=1e-3)


def test_a_point_becomes_a_gaussian_of_that_width() -> None:
    line = torch.zeros(1, 1, 41, 1)
    line[0, 0, 20] = 1.0
    smooth = gaussian_smooth(line, [2.0, 0.0])[0, 0, :, 0]
    offset = torch.arange(41.0) - 20
    assert (smooth * offset**2).sum().sqrt() == pytest.approx(2.0, abs=0.03)
