"""Maps that fold and how they are mended."""

from dataclasses import replace

import pytest
import torch

from dreamorph.errors import RegistrationError
from dreamorph.registration.folds import without_folds
from dreamorph.spatial import SpatialTransform, gaussian_smooth


def some_maps(shape: tuple[int, ...], strength: float) -> SpatialTransform:
    """One map that folds where it is strong, and one that folds nowhere."""
    coarse = tuple(n // 2 for n in shape)
    generator = torch.Generator().manual_seed(1)
    noise = gaussian_smooth(torch.randn(2, len(shape), *coarse, generator=generator), 1.0)
    noise[1] *= 0.3
    noise[(0, slice(None), *[slice(0, 5)] * len(shape))] *= strength
    still = SpatialTransform.identity(2, shape, (1.0,) * len(shape))
    return replace(still, velocity=noise)


@pytest.mark.parametrize("shape", [(40, 44), (40, 32, 36)])
def test_a_fold_is_smoothed_away_and_what_is_far_from_it_stays(shape: tuple[int, ...]) -> None:
    given = some_maps(shape, 12.0)
    assert given.folded().flatten(1).any(dim=1).tolist() == [True, False]
    mended = without_folds(given)
    assert not mended.folded().any()
    assert given.velocity is not None
    assert mended.velocity is not None
    assert torch.equal(mended.velocity[1], given.velocity[1])
    far = (0, slice(None), *[slice(-3, None)] * len(shape))
    assert torch.equal(mended.velocity[far], given.velocity[far])
    assert float(mended.displacement()[0].norm(dim=0).mean()) > 0.2


@pytest.mark.parametrize(("shape", "strength"), [((24, 20, 22), 20.0), ((48, 48), 400.0)])
def test_even_a_map_of_noise_ends_without_a_fold(shape: tuple[int, ...], strength: float) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = strength * torch.randn(1, len(shape), *(n // 2 for n in shape), generator=generator)
    given = replace(SpatialTransform.identity(1, shape, (1.0,) * len(shape)), velocity=noise)
    assert float(given.folded().float().mean()) > 0.3
    assert not without_folds(given).folded().any()


def test_maps_without_a_velocity_are_left_alone() -> None:
    still = SpatialTransform.identity(2, (8, 8, 8), (1.0,) * 3)
    assert without_folds(still) is still


def test_a_velocity_that_is_no_number_is_refused() -> None:
    """Halved, it stays none: there would be no end."""
    still = SpatialTransform.identity(1, (8, 8, 8), (1.0, 1.0, 1.0))
    broken = replace(still, velocity=torch.full((1, 3, 4, 4, 4), float("nan")))
    with pytest.raises(RegistrationError, match="not finite"):
        without_folds(broken)
