"""Losses within the mask: padding counts nowhere."""

import torch
from torch import nn
from torch.nn import functional

from dreamorph.spatial.transform import one_hot


class MaskedDiceCrossEntropy(nn.Module):
    """Soft Dice over the labels (MONAI) plus cross-entropy, both within the mask.

    Dice is taken over the whole batch, so a label that is small or absent in one of several volumes
    does not dominate. A label absent from the whole batch, which may be a single volume, costs
    nearly all of its share of the Dice term whatever the answer.
    (Milletari et al., 3DV 2016; Isensee et al., Nature Methods 2021 for the sum.)
    """

    def __init__(self) -> None:
        from monai.losses import DiceLoss

        super().__init__()
        self.dice = DiceLoss(include_background=False, batch=True)

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor
    ) -> torch.Tensor:
        """Loss of logits `(B, L, *shape)`, labels `(B, 1, *shape)`, masks bool `(B, 1, *shape)`."""
        logits = logits.float()
        inside = masks.to(logits.dtype)
        log_probabilities = functional.log_softmax(logits, dim=1)
        target = one_hot(labels, logits.shape[1] - 1) * inside
        entropy = -(log_probabilities * target).sum() / inside.sum().clamp(min=1)
        dice: torch.Tensor = self.dice(log_probabilities.exp() * inside, target)
        return dice + entropy
