import numpy as np
import pytest
import torch

from dreamorph.hallucination.similarity import label_overlap, ms_ssim


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(48, 40), (24, 28, 24), (48, 64, 48)])
def test_ms_ssim_of_itself_is_one(shape):
    image = noise(2, 1, *shape)
    weight = torch.ones_like(image)
    assert torch.allclose(ms_ssim(image, image, weight, 4.0), torch.ones(2), atol=1e-4)


def test_ms_ssim_falls_with_noise():
    image, weight = noise(1, 1, 24, 24, 24), torch.ones(1, 1, 24, 24, 24)
    found = [
        float(ms_ssim(image, image + s * noise(*image.shape, seed=1), weight, 4.0))
        for s in (0.1, 0.5, 2.0)
    ]
    assert found == sorted(found, reverse=True)


def test_ms_ssim_ignores_padding():
    image, other = noise(1, 1, 24, 24, 24), noise(1, 1, 24, 24, 24, seed=1)
    weight = torch.zeros_like(image)
    weight[..., :12] = 1
    changed = other.clone()
    changed[..., 20:] = 0
    near = ms_ssim(image, other, weight, 4.0)
    assert torch.allclose(near, ms_ssim(image, changed, weight, 4.0), atol=1e-3)


def test_overlap_by_hand():
    a, b = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    a[..., 0, :2] = 1
    b[..., 0, 1:3] = 1
    b[..., 3, :] = 2
    # label 1 overlaps by half, label 2 is in one of the two only, label 3 is nowhere
    assert label_overlap(a, b, 3).tolist() == pytest.approx([0.5])
    a[..., 2, :] = 2
    # now both have label 2, which does not overlap at all
    assert label_overlap(a, b, 3).tolist() == pytest.approx([0.25])
    assert np.isnan(label_overlap(a, b * 0, 3).tolist()).all()
