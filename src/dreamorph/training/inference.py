"""Probabilities for whole volumes of any size."""

from collections.abc import Iterator

import torch
from monai.inferers import sliding_window_inference
from torch import nn

from dreamorph.training.networks import PaddedNetwork

#: Voxels of a volume above which it is worked through in overlapping windows.
VOXEL_BUDGET = 160**3
#: Edge of a window in voxels, and overlap of neighbouring windows.
WINDOW, OVERLAP = 96, 0.5


def predict(
    network: nn.Module,
    images: torch.Tensor,
    masks: torch.Tensor | None = None,
    device: torch.device | str = "auto",
    voxel_budget: int = VOXEL_BUDGET,
) -> torch.Tensor:
    """Probabilities of labels or classes, one volume at a time.

    Args:
        network: gives logits of labels `(B, L, *shape)`, or of classes `(B, K)`.
        images: `(N, C, *shape)`, of the training volumes' spacing; any size.
        masks: `(N, 1, *shape)` bool; outside them the background is certain. None is everywhere.
        device: where to compute; auto takes a GPU where there is one. Results come back to the CPU.
        voxel_budget: larger volumes are worked through in windows (labels only).

    Returns:
        `(N, L, *shape)` or `(N, K)` float32, summing to one over the second axis.
    """
    return torch.cat(list(predict_each(network, images, masks, device, voxel_budget)))


def predict_each(
    network: nn.Module,
    images: torch.Tensor,
    masks: torch.Tensor | None = None,
    device: torch.device | str = "auto",
    voxel_budget: int = VOXEL_BUDGET,
) -> Iterator[torch.Tensor]:
    """As `predict`, one volume `(1, ...)` at a time, for cohorts whose results do not fit."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    home = next((p.device for p in network.parameters()), torch.device("cpu"))
    was_training = network.training
    network.to(device)
    network.eval()
    try:
        for row in range(len(images)):
            one = slice(row, row + 1)
            with torch.inference_mode():
                logits = _logits(network, images[one].float().to(device), voxel_budget)
                probabilities = torch.softmax(logits.float(), dim=1).cpu()
            inside = None if masks is None else masks[one].cpu()
            yield _within(probabilities.clone(), inside)
    finally:
        network.train(was_training)
        network.to(home)


def _logits(network: nn.Module, image: torch.Tensor, voxel_budget: int) -> torch.Tensor:
    dense = network.dense if isinstance(network, PaddedNetwork) else True
    shape = image.shape[2:]
    if not dense or shape.numel() <= voxel_budget:
        logits: torch.Tensor = network(image)
        return logits
    windows = sliding_window_inference(
        image,
        roi_size=[min(WINDOW, n) for n in shape],
        sw_batch_size=1,
        predictor=network,
        overlap=OVERLAP,
        mode="gaussian",
    )
    assert isinstance(windows, torch.Tensor)
    return windows


def _within(probabilities: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Certain background outside the mask; class probabilities stay as they are."""
    if mask is None or probabilities.dim() == 2:
        return probabilities
    inside = mask.bool()
    probabilities[:, :1] = torch.where(inside, probabilities[:, :1], 1.0)
    probabilities[:, 1:] = torch.where(inside, probabilities[:, 1:], 0.0)
    return probabilities
