"""Probabilities for whole volumes of any size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dreamorph.dreaming import AffineWarpConfig
from dreamorph.dreaming.samplers import random_affine
from dreamorph.spatial import SpatialTransform
from dreamorph.training.device import device_named
from dreamorph.training.networks import PaddedNetwork


@dataclass(frozen=True)
class Views:
    """Affine maps under which a volume is shown once more; the answers are averaged.

    Wang et al., Neurocomputing 2019 (test-time augmentation). For labels only.

    Attributes:
        maps: `(K, n, n)` in grid millimetres.
        spacing_mm: voxel size of the volumes.
    """

    maps: torch.Tensor
    spacing_mm: tuple[float, ...]

    @classmethod
    def draw(cls, count: int, config: AffineWarpConfig, spacing_mm: tuple[float, ...]) -> "Views":
        """`count` maps like those of training, the same ones every time."""
        generator = torch.Generator().manual_seed(0)
        return cls(random_affine(count, len(spacing_mm), config, generator), spacing_mm)

    def average(
        self,
        ask: Callable[[torch.Tensor], torch.Tensor],
        image: torch.Tensor,
        inside: torch.Tensor,
    ) -> torch.Tensor:
        """Mean answer `(1, L, *shape)` for an image `(1, C, *shape)` as it is and in all views.

        `inside` `(1, 1, *shape)` is one where the image has content. A view counts as far as it
        shows a voxel.
        """
        total = ask(image)
        weight = torch.ones_like(total[:, :1])
        for one in self.maps:
            there = SpatialTransform.identity(1, image.shape[2:], self.spacing_mm, image.device)
            there = there.before(one[None])
            seen = there.warp(inside, padding="zeros")
            answer = ask(there.warp(image) * (seen > 0.5))
            back = there.inverse()
            share = back.warp(seen, padding="zeros")
            total = total + share * back.warp(answer)
            weight = weight + share
        return total / weight


def predict(
    network: nn.Module,
    images: torch.Tensor,
    masks: torch.Tensor | None = None,
    device: torch.device | str = "auto",
    views: Views | None = None,
) -> torch.Tensor:
    """Probabilities of labels or classes, one volume at a time.

    Volumes are seen whole, as they are in training: networks normalise by what they see, and answer
    worse in windows.

    Args:
        network: gives logits of labels `(B, L, *shape)`, or of classes `(B, K)`.
        images: `(N, C, *shape)`, of the training volumes' spacing; any size.
        masks: `(N, 1, *shape)` bool; outside them the background is certain. None is everywhere.
        device: where to compute; auto takes a GPU where there is one. Results come back to the CPU.
        views: show each volume in these as well, and average (labels only).

    Returns:
        `(N, L, *shape)` or `(N, K)` float32, summing to one over the second axis.
    """
    return torch.cat(list(predict_each(network, images, masks, device, views)))


def predict_each(
    network: nn.Module,
    images: torch.Tensor,
    masks: torch.Tensor | None = None,
    device: torch.device | str = "auto",
    views: Views | None = None,
) -> Iterator[torch.Tensor]:
    """As `predict`, one volume `(1, ...)` at a time, for cohorts whose results do not fit."""
    place = device_named(device)
    home = next((p.device for p in network.parameters()), torch.device("cpu"))
    was_training = network.training
    network.to(place)
    network.eval()

    def ask(image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(network(image).float(), dim=1)

    try:
        for row in range(len(images)):
            one = slice(row, row + 1)
            inside = None if masks is None else masks[one]
            with torch.inference_mode():
                image = images[one].float().to(place)
                if views is None or not _gives_labels(network):
                    probabilities = ask(image)
                else:
                    content = torch.ones_like(image[:, :1]) if inside is None else inside.to(image)
                    probabilities = views.average(ask, image, content)
            yield _within(probabilities.cpu().clone(), None if inside is None else inside.cpu())
    finally:
        network.train(was_training)
        network.to(home)


def _gives_labels(network: nn.Module) -> bool:
    return network.dense if isinstance(network, PaddedNetwork) else True


def _within(probabilities: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Certain background outside the mask; class probabilities stay as they are."""
    if mask is None or probabilities.dim() == 2:
        return probabilities
    inside = mask.bool()
    probabilities[:, :1] = torch.where(inside, probabilities[:, :1], 1.0)
    probabilities[:, 1:] = torch.where(inside, probabilities[:, 1:], 0.0)
    return probabilities
