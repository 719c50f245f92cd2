"""The loss of the deformable step."""

import torch
from torch.nn.functional import pad

from dreamorph.registration import RegistrationConfig, VelocityConfig
from dreamorph.registration.pyramid import Pairs, comparable
from dreamorph.registration.svf import _Level
from dreamorph.spatial import gaussian_smooth, identity_affine
from tests.registration.volumes import texture


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
