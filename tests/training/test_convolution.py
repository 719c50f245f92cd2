"""Half by half is the same as in one piece."""

import pytest
import torch
from torch import nn

from dreamorph.training.convolution import QuickConv3d, quick_on_a_cpu


@pytest.mark.parametrize("depth", [8, 9, 10])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 1, 0), (5, 1, 2)]
)
def test_halves_give_the_whole_and_its_gradients(
    depth: int, kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(2, 3, kernel, stride, padding).double()
    images = torch.randn(1, 2, depth, 7, 6, dtype=torch.float64)
    expected = plain(images)
    expected.square().sum().backward()
    gradient = plain.weight.grad.clone()
    plain.zero_grad()
    halved = quick_on_a_cpu(plain)
    assert isinstance(halved, QuickConv3d)
    found = halved(images)
    found.square().sum().backward()
    assert torch.allclose(found, expected)
    assert torch.allclose(halved.weight.grad, gradient)


def test_the_halves_are_taken_where_they_are_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    halved = quick_on_a_cpu(nn.Conv3d(1, 1, 3, padding=1))
    sizes = []
    plain = nn.functional.conv3d

    def watched(images: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(len(images))
        return plain(images, *rest)

    monkeypatch.setattr(nn.functional, "conv3d", watched)
    one, two = torch.zeros(1, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8)
    for images in (one, two):
        halved(images)
    assert sizes == [2, 2]


def test_weights_keep_their_names() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 3, padding="same"))
    names = list(network.state_dict())
    quick = quick_on_a_cpu(network)
    assert list(quick.state_dict()) == names
    assert type(quick[1]) is nn.Conv3d


def test_half_precision_is_near_single_and_kept_from_tiny_volumes() -> None:
    torch.manual_seed(0)
    quick = quick_on_a_cpu(nn.Conv3d(2, 3, 3, padding=1))
    large, tiny = torch.randn(2, 2, 8, 8, 8), torch.randn(2, 2, 2, 4, 3)
    expected, exact = quick(large), quick(tiny)
    with torch.autocast("cpu", torch.bfloat16):
        found, same = quick(large), quick(tiny)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.05)
    assert torch.equal(same, exact)
