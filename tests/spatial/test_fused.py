"""The programs for a GPU against the operations that they stand for.

Without a GPU they are interpreted.
"""

import pytest
import torch

from dreamorph.spatial import SpatialTransform, gaussian_smooth, jacobian, smoothing, transform
from dreamorph.spatial.grid import DisplacedGrid, affine_maps, corner_and_shape, points_like, sample
from dreamorph.spatial.velocity import squared

pytest.importorskip("triton", reason="triton is not installed on this machine")
from dreamorph.spatial import fused

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Grid, its voxels, and a box of it; the coarse grid of what is read under is `COARSE`.
COARSE = (7, 9, 8)
BOXES = {
    "twice as fine, cut": ((12, 18, 15), (slice(0, 12), slice(2, 16), slice(2, None))),
    "as fine, cut": (COARSE, (slice(0, 7), slice(2, 9), slice(0, 99))),
    "as fine, whole": (COARSE, (slice(0, 7), slice(0, 9), slice(0, 8))),
    "odd": ((15, 20, 18), (slice(1, 15), slice(2, 16), slice(2, 14))),
}


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the programs are compared with is computed without them, on a GPU too."""
    for module in (smoothing, transform, jacobian):
        monkeypatch.setattr(module, "fused", lambda *_: False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def crooked(seed: int = 0) -> torch.Tensor:
    """Affine maps near the identity, `(2, 4, 4)`."""
    maps = torch.eye(4, dtype=torch.float64, device=DEVICE).repeat(2, 1, 1)
    maps[:, :3] += 0.05 * noise(2, 3, 4, seed=seed).double()
    return maps


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 3e-5 * expected.abs().max())


def test_smoothing() -> None:
    field = noise(2, 3, *COARSE)
    found, taps = field, smoothing._gaussian(1.0)
    for axis in range(3):
        found = fused.smoothed(found, taps, axis)
    assert close(found, gaussian_smooth(field, 1.0))


@pytest.mark.parametrize("size", [0.1, 0.5, 1.5])
@pytest.mark.parametrize("flip", [False, True])
def test_the_exponential_and_its_gradient(size: float, flip: bool) -> None:
    """At the largest, voxels look beyond the border and many voxels away."""
    units = (0.2, 0.25, 0.3) if flip else (1.0, 1.0, 1.0)
    field = (size * gaussian_smooth(noise(2, 3, *COARSE), 1.0)).requires_grad_()
    start = field.flip(1) if flip else field
    expected = squared(start * field.new_tensor(units).reshape(1, 3, 1, 1, 1), 2)
    given = noise(*expected.shape, seed=1)
    (by_field,) = torch.autograd.grad((expected * given).sum(), [field])
    flow = fused.Flow(field.detach(), 2, units, flip)
    assert close(flow.fields[-1], expected.detach())
    assert close(flow.gradient(given), by_field)


@pytest.mark.parametrize("case", BOXES)
def test_reading_and_its_gradient(case: str) -> None:
    shape, box = BOXES[case]
    volume = gaussian_smooth(noise(2, 2, *shape, seed=2), 1.0)
    displacement = (0.5 * gaussian_smooth(noise(2, 3, *COARSE), 1.0)).requires_grad_()
    whole = (slice(None), slice(None), *box)
    grid = DisplacedGrid(shape, [1.2 * n for n in shape], crooked(), whole)
    expected = grid.sample(volume, displacement)
    given = noise(*expected.shape, seed=1)
    (by_displacement,) = torch.autograd.grad((expected * given).sum(), [displacement])
    reading = fused.Reading(volume, grid.maps, *grid.corner_and_shape)
    assert close(reading.read(displacement.detach()), expected.detach())
    assert close(reading.gradient(displacement.detach(), given), by_displacement)


@pytest.mark.parametrize("case", BOXES)
def test_looking_under_affine_maps(case: str) -> None:
    shape, box = BOXES[case]
    volume, edges = gaussian_smooth(noise(2, 1, *shape, seed=2), 1.0), [1.2 * n for n in shape]
    maps = crooked().requires_grad_()
    points = points_like(shape, [1.2] * 3, DEVICE)[(slice(None), slice(None), *box)]
    expected = sample(volume, points, edges, affine=maps)
    given = noise(*expected.shape, seed=1)
    (by_maps,) = torch.autograd.grad((expected * given).sum(), [maps])
    in_units = affine_maps(maps, edges)
    found = fused.Looked.apply(in_units, volume, *corner_and_shape(box, shape))
    assert close(found.detach(), expected.detach())
    (looked,) = torch.autograd.grad((found * given).sum(), [maps])
    assert close(looked, by_maps)


def test_points_and_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, spacing = (11, 14, 12), (1.1, 1.2, 1.3)
    velocity = 3 * gaussian_smooth(noise(2, 3, 6, 7, 6), 1.0)
    maps = SpatialTransform(crooked(1), velocity, crooked(2), shape, spacing)
    points = maps.points()
    rough = points + 0.4 * noise(*points.shape, seed=3)
    folds = jacobian.folded_voxels(rough, spacing)
    assert 0.1 < folds.float().mean() < 0.9
    for module in (transform, jacobian):
        monkeypatch.setattr(module, "fused", lambda *_: True)
    assert close(maps.points(), points)
    assert torch.equal(jacobian.folded_voxels(rough, spacing), folds)


def test_one_affine_map_for_several_velocities(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs do not broadcast: plain operations do it."""
    velocity = gaussian_smooth(noise(2, 3, 4, 5, 4), 1.0)
    maps = SpatialTransform(crooked()[:1], velocity, crooked(1), (6, 7, 8), (1.0, 1.0, 1.0))
    points = maps.points()
    monkeypatch.setattr(transform, "fused", lambda *_: True)
    assert torch.equal(maps.points(), points)


def test_what_is_not_contiguous_is_refused() -> None:
    from dreamorph.spatial.on_gpu import launch

    field = noise(2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="contiguous"):
        launch(None, field, 1, field.flip(1).transpose(2, 3))
