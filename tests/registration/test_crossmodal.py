"""Agreement across contrasts: what it must not see, and that it leads to the right map."""

import pytest
import torch

from dreamorph.registration import RegistrationConfig, VelocityConfig, register
from dreamorph.registration.crossmodal import self_similarity
from tests.registration.volumes import error_mm, known_warp, texture


def other_contrast(volume: torch.Tensor) -> torch.Tensor:
    """Inverted and bent: no linear relation to the volume is left."""
    return -(volume.clamp(-6, 6) / 4).tanh() + 0.15 * (volume / 4) ** 2


@pytest.mark.parametrize(("shape", "channels"), [((20, 22), 4), ((14, 12, 16), 12)])
def test_descriptors_do_not_see_gain_offset_or_inversion(
    shape: tuple[int, ...], channels: int
) -> None:
    volume = texture(shape)
    weight = torch.ones_like(volume)
    descriptor = self_similarity(volume, weight)
    assert descriptor.shape == (1, channels, *shape)
    assert torch.allclose(self_similarity(3 - 2 * volume, weight), descriptor, atol=1e-4)


@pytest.mark.parametrize(("similarity", "shape"), [("mind", (44, 40)), ("mind", (24, 26, 24))])
def test_a_known_warp_is_found_across_contrasts(similarity: str, shape: tuple[int, ...]) -> None:
    moving, truth = texture(shape), known_warp(shape, 1.5)
    fixed = other_contrast(truth.warp(moving))
    config = RegistrationConfig(
        similarity=similarity, affine=None, velocity=VelocityConfig(iterations=(20, 20, 20))
    )
    spacing = [1.0] * len(shape)
    found = error_mm(register(fixed, moving, config, spacing=spacing).transform, truth)
    plain = config.model_copy(update={"similarity": "lncc"})
    misled = error_mm(register(fixed, moving, plain, spacing=spacing).transform, truth)
    assert found < 0.7
    assert misled > 1.3
