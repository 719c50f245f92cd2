"""The loss of the deformable step."""

import pytest
import torch
from torch.nn.functional import pad

from dreamorph.registration import RegistrationConfig, VelocityConfig, register
from dreamorph.registration.pyramid import Pairs, comparable
from dreamorph.registration.svf import _Level
from dreamorph.spatial import gaussian_smooth, identity_affine
from tests.registration.volumes import ball, texture


def test_a_margin_of_padding_leaves_the_loss_as_it_was() -> None:
    """Agreement and penalties count what has content: smoothness does not depend on the grid."""
    shape, margin = (24, 24, 24), 8
    masks = torch.ones(2, 1, *shape)
    fixed, moving = texture(shape, seed=1, batch=2), texture(shape, seed=2, batch=2)
    how = VelocityConfig(diffusion=3.0, bending=6.0)
    config = RegistrationConfig(affine=None, velocity=how)
    raw = torch.zeros(2, 3, 12, 12, 12)
    generator = torch.Generator().manual_seed(0)
    raw[:, :, 4:8, 4:8, 4:8] = 3 * torch.randn(2, 3, 4, 4, 4, generator=generator)
    raw = gaussian_smooth(raw, 0.3)

    def loss(width: int) -> torch.Tensor:
        around = [width] * 6
        inside = pad(masks, around)
        volumes = [comparable(pad(v, around), inside) for v in (fixed, moving)]
        edges = tuple(float(n + 2 * width) for n in shape)
        pairs = Pairs(*volumes, inside, inside, None, None, edges)
        wide = pad(raw, [width // 2] * 6)
        return _Level(pairs, identity_affine(2, 3), config, how, wide.shape[2:]).loss(wide)

    # up to the one difference less than voxels that there is along each axis of a grid
    assert torch.allclose(loss(0), loss(margin), atol=0.03)


@pytest.mark.parametrize(
    ("shape", "edge"), [((32, 32, 32), 1.0), ((32, 32, 32), 2.0), ((48, 44), 1.5)]
)
def test_a_smooth_volume_is_not_moved_onto_itself(shape: tuple[int, ...], edge: float) -> None:
    """Nothing in it tells its inside apart but the edge, which lies where it has to."""
    volume = ball(shape, 8.0, edge)
    found = register(volume, volume, spacing=(1.0,) * len(shape))
    assert found.failures == ("",)
    assert float(found.transform.displacement().norm(dim=1).max()) < 0.5


def test_a_smooth_volume_is_found_where_it_was_shifted_to() -> None:
    fixed, moving = (ball((32, 32, 32), 8.0, 2.0, s) for s in ((0, 0, 0), (2.0, -1.0, 1.0)))
    found = register(fixed, moving)
    inside, warped = fixed > 0.5, found.warp(moving) > 0.5
    assert 2 * float((inside & warped).sum()) / float(inside.sum() + warped.sum()) > 0.97
