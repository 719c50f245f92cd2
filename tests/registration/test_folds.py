"""Maps that fold and how they are mended."""

import math
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
    mended = without_folds(given)
    assert not mended.folded().any()
    assert not mended.inverse().folded().any()


@pytest.mark.parametrize("shape", [(40, 44), (24, 28, 26)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_map_whose_inverse_alone_folds_is_mended_too(
    shape: tuple[int, ...], turned: bool
) -> None:
    """Where forward nothing folds on the grid of voxels, also behind an affine part that turns."""
    ndim, affine = len(shape), torch.eye(len(shape) + 1)[None].repeat(24, 1, 1)
    if turned:
        c, s = math.cos(0.5), math.sin(0.5)
        affine[:, :2, :2] = torch.tensor([[c, -s], [s, c]])
        affine[:, 0, -1] = 3.0
    generator = torch.Generator().manual_seed(0)
    coarse = [n // 2 for n in shape]
    noise = gaussian_smooth(torch.randn(24, ndim, *coarse, generator=generator), 1.0)
    strength = torch.linspace(1.0, 3.0 + 1.5 * ndim, 24).reshape(24, *[1] * (ndim + 1))
    still = SpatialTransform.identity(24, shape, (1.0,) * ndim)
    given = replace(still, velocity=strength * noise, post=affine)
    there, back = (one.folded().flatten(1).any(dim=1) for one in (given, given.inverse()))
    assert (back & ~there).any()
    assert (there & ~back).any() or (there & back).any()
    mended = without_folds(given)
    assert not mended.folded().any()
    assert not mended.inverse().folded().any()
    assert mended.velocity is not None
    assert given.velocity is not None
    whole = ~there & ~back
    assert whole.any()
    assert torch.equal(mended.velocity[whole], given.velocity[whole])
    kept = mended.velocity[~whole].square().mean() / given.velocity[~whole].square().mean()
    assert float(kept) > 0.25  # smoothed near the folds, not weakened as a whole


def test_maps_without_a_velocity_are_left_alone() -> None:
    still = SpatialTransform.identity(2, (8, 8, 8), (1.0,) * 3)
    assert without_folds(still) is still


def test_a_velocity_that_is_no_number_is_refused() -> None:
    """Halved, it stays none: there would be no end."""
    still = SpatialTransform.identity(1, (8, 8, 8), (1.0, 1.0, 1.0))
    broken = replace(still, velocity=torch.full((1, 3, 4, 4, 4), float("nan")))
    with pytest.raises(RegistrationError, match="not finite"):
        without_folds(broken)
