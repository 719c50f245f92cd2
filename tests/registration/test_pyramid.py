"""Filling beyond masks and boxes around them."""

import torch
from scipy import ndimage

from dreamorph.registration.pyramid import fill_beyond_mask, spanned


def _noise(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(3))


def test_beyond_a_box_lies_the_value_of_its_nearest_voxel() -> None:
    volume = _noise((9, 8, 7))
    mask = torch.zeros_like(volume)
    mask[0, :, 2:6, 1:8, 3:5] = 1
    mask[1, :, 4:, :3] = 1
    filled = fill_beyond_mask(volume, mask)
    for one, inside, found in zip(volume[:, 0], mask[:, 0], filled[:, 0], strict=True):
        nearest = ndimage.distance_transform_edt(
            inside.numpy() == 0, return_distances=False, return_indices=True
        )
        assert nearest is not None
        assert torch.equal(found, one[tuple(torch.from_numpy(n).long() for n in nearest)])


def test_every_value_beyond_any_mask_is_one_from_inside_and_those_inside_stay() -> None:
    volume = _noise((8, 9))
    mask = (volume > 0.8).float()
    filled = fill_beyond_mask(volume, mask)
    assert torch.equal(filled[mask > 0], volume[mask > 0])
    for found, one, inside in zip(filled, volume, mask > 0, strict=True):
        assert set(found.flatten().tolist()) == set(one[inside].tolist())


def test_without_padding_nothing_changes() -> None:
    volume = _noise((5, 6))
    assert torch.equal(fill_beyond_mask(volume, torch.ones_like(volume)), volume)


def test_the_box_spans_all_masks_and_begins_at_a_multiple() -> None:
    mask = torch.zeros(2, 1, 10, 10)
    mask[0, 0, 3:5, 4], mask[1, 0, 6, 7] = 1, 1
    assert spanned(mask, multiple=2)[2:] == (slice(2, 7), slice(4, 8))
    assert spanned(mask, margin=2)[2:] == (slice(1, 9), slice(2, 10))
