import math

import torch

from dreamorph.training.losses import MaskedDiceCrossEntropy
from tests.training.fakes import segmentation


def test_padding_counts_nowhere():
    """Neither the loss nor a gradient depends on logits or labels beyond the mask."""
    data = segmentation()
    logits = torch.randn(4, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    foul = torch.where(data.masks, logits, 50.0).requires_grad_()
    logits.requires_grad_()
    wrong = torch.where(data.masks, data.labels, 1).to(torch.uint8)
    criterion = MaskedDiceCrossEntropy()
    one = criterion(logits, data.labels, data.masks)
    two = criterion(foul, wrong, data.masks)
    assert torch.isclose(one, two)
    one.backward()
    two.backward()
    assert torch.allclose(logits.grad, foul.grad)
    assert not logits.grad[:, :, :2].any()


def test_half_and_half():
    """Undecided between two labels: entropy log 2, soft Dice 2*.5*n / (.5*m + n)."""
    labels = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    labels[..., :2] = 1
    loss = MaskedDiceCrossEntropy()(
        torch.zeros(1, 2, 4, 4, 4), labels, torch.ones(1, 1, 4, 4, 4, dtype=torch.bool)
    )
    assert math.isclose(float(loss), math.log(2) + 1 - 2 * 16 / (32 + 32), abs_tol=1e-5)


def test_a_label_absent_from_the_whole_batch_costs_its_share():
    """Two labels, one of them nowhere: half of the Dice term is lost by a good answer too."""
    labels = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
    labels[..., 4:12, 4:12, 4:12] = 1
    logits = 8.0 * torch.cat([labels == k for k in range(3)], dim=1).float()
    loss = MaskedDiceCrossEntropy()(logits, labels, torch.ones_like(labels, dtype=torch.bool))
    assert math.isclose(float(loss), 0.5, abs_tol=0.01)


def test_perfect_is_zero():
    data = segmentation()
    logits = 40.0 * torch.cat([data.labels == 0, data.labels == 1], dim=1).float()
    assert float(MaskedDiceCrossEntropy()(logits, data.labels, data.masks)) < 1e-4
