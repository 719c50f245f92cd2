"""Local correlation: which windows count."""

import pytest
import torch

from dreamorph.registration.similarity import LocalCorrelation
from dreamorph.spatial.smoothing import box_mean
from tests.registration.volumes import texture


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
