"""Correlation: local, which windows count; of whole volumes."""

import numpy as np
import pytest
import torch

from dreamorph.registration.similarity import FLAT, GlobalCorrelation, LocalCorrelation
from dreamorph.spatial.smoothing import box_mean
from tests.registration.volumes import ball, texture


@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_a_stack_of_few_slices_agrees_with_itself(slices: int) -> None:
    volume = texture((slices, 20, 24))
    volume /= volume.std()
    agreement = LocalCorrelation.prepare(volume, torch.ones_like(volume))
    assert float(agreement(volume)) > 0.95
    assert float(agreement(-volume)) < -0.95
    assert (agreement.weight > 0).float().mean() > 0.5


def test_where_windows_are_full_those_count_that_are_more_than_half_full() -> None:
    volume = texture((12, 14, 16))
    mask = torch.rand(volume.shape, generator=torch.Generator().manual_seed(0))
    mask[..., :8, :9, :10] = 1
    filled = box_mean(mask, 5, 2)
    weight = LocalCorrelation.prepare(volume, mask, stride=2).weight
    assert torch.equal(weight, filled * (filled > 0.5))


def test_windows_that_count_do_not_depend_on_the_batch() -> None:
    volumes = texture((8, 20, 24), batch=2)
    masks = torch.ones_like(volumes)
    masks[1, :, 2:] = 0
    both = LocalCorrelation.prepare(volumes, masks).weight
    for k in range(2):
        alone = LocalCorrelation.prepare(volumes[[k]], masks[[k]]).weight
        assert torch.equal(alone[0], both[k])
        assert alone.any()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (10.0, 0.1)])
def test_the_correlation_of_whole_volumes_is_that_of_numpy(mean: float, deviation: float) -> None:
    fixed = texture((12, 14, 16), batch=2)
    moved = texture((12, 14, 16), seed=3, batch=2) + fixed
    moved = mean + deviation * (moved - moved.mean()) / moved.std()
    mask = torch.zeros_like(fixed)
    mask[0, :, 2:9], mask[1, :, :, 3:] = 1, 1
    found = GlobalCorrelation.prepare(fixed, mask)(moved)
    for k in range(2):
        inside = mask[k] > 0
        expected = np.corrcoef(fixed[k][inside].double(), moved[k][inside].double())[0, 1]
        assert float(found[k]) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("edge", [1.0, 2.0, 4.0])
def test_nothing_agrees_better_with_a_smooth_volume_than_itself(edge: float) -> None:
    """Not even the same with more contrast, which fewer windows then call flat."""
    volume = ball((20, 22, 24), 6.0, edge)
    agreement = LocalCorrelation.prepare(volume, torch.ones_like(volume), granted=FLAT)
    assert float(agreement(volume)) == pytest.approx(1.0, abs=1e-5)
    assert float(agreement(2 * volume)) < 1
    assert float(agreement(ball((20, 22, 24), 5.0, edge))) < 0.999
    bare = LocalCorrelation.prepare(volume, torch.ones_like(volume))
    assert float(bare(2 * volume)) > float(bare(volume))


@pytest.mark.parametrize("granted", [0.0, FLAT])
def test_the_gradient_of_the_correlation_is_that_of_its_values(granted: float) -> None:
    fixed, moved = texture((8, 9, 10)).double(), texture((8, 9, 10), seed=3).double()
    mask = torch.ones_like(fixed)
    agreement = LocalCorrelation.prepare(fixed, mask, stride=2, granted=granted)
    assert torch.autograd.gradcheck(agreement, moved.requires_grad_())
