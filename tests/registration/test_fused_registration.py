"""The programs for a GPU against the operations that they stand for.

Without a GPU they are interpreted.
"""

from collections.abc import Callable

import pytest
import torch

from dreamorph.registration import RegistrationConfig, affine, descent, similarity, svf
from dreamorph.registration.pyramid import Pairs, comparable
from dreamorph.registration.roughness import Roughness
from dreamorph.spatial import (
    affine_exp,
    coarse_shape,
    gaussian_smooth,
    jacobian,
    smoothing,
    transform,
    velocity,
)
from tests.spatial.test_fused import DEVICE, close, crooked, noise

pytest.importorskip("triton", reason="triton is not installed on this machine")
from dreamorph.registration import fused

Switch = Callable[[bool], None]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """Says whether programs are used."""

    def to(used: bool) -> None:
        for module in (descent, svf, smoothing, velocity, transform, jacobian):
            monkeypatch.setattr(module, "fused", lambda *those: used and those[0].dim() == 5)
        for module in (similarity, affine):
            monkeypatch.setattr(module, "takes", lambda *_: used)

    return to


def pairs_of(shape: tuple[int, ...], labels: int, padded: bool) -> Pairs:
    volumes = [gaussian_smooth(noise(2, 1, *shape, seed=k), 1.0) for k in (1, 2)]
    masks = torch.ones(2, 2, 1, *shape, device=DEVICE)
    if padded:
        masks[0, 0, :, :3] = masks[0, :, :, :1] = masks[0, :, :, :, -2:] = 0
        masks[1, 1, :, :, :, 4:5] = masks[1, :, :, :, :, :2] = 0
    marks = [(noise(2, labels, *shape, seed=k) > 1).float() if labels else None for k in (3, 4)]
    sides = [comparable(*side) for side in zip(volumes, masks, strict=True)]
    return Pairs(*sides, *masks, *marks, tuple(1.3 * n for n in shape))


@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("granted", [0.0, similarity.FLAT])
def test_local_correlation(window: int, stride: int, granted: float, switch: Switch) -> None:
    shape = (10, 12, 11)
    fixed, mask = noise(2, 1, *shape), noise(2, 1, *shape, seed=1) > -1
    agreement = similarity.prepare("lncc", fixed, mask, window, stride, granted)
    moved = (fixed + noise(2, 1, *shape, seed=2)).requires_grad_()
    found = []
    for used in (False, True):
        switch(used)
        value = agreement(moved)
        (by_moved,) = torch.autograd.grad((value * value.new_tensor([1, -2])).sum(), [moved])
        found.append((value.detach(), by_moved))
    assert close(found[1][0], found[0][0])
    assert close(found[1][1], found[0][1])


def test_volumes_that_lie_in_another_order(switch: Switch) -> None:
    """As nibabel reads them, the first axis fastest."""
    fixed, moved = (
        noise(2, 1, 8, 7, 9, seed=k).permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)
        for k in (0, 1)
    )
    assert not fixed.is_contiguous()
    found = []
    for used in (False, True):
        switch(used)
        agreement = similarity.prepare("lncc", fixed, torch.ones_like(fixed))
        leaf = moved.clone().requires_grad_()
        value = agreement(leaf)
        found.append((value.detach(), *torch.autograd.grad(value.sum(), [leaf])))
    assert all(close(*both) for both in zip(found[1], found[0], strict=True))


@pytest.mark.parametrize("shape", [(7, 9, 8), (7, 2, 8), (1, 9, 8)])
def test_roughness(shape: tuple[int, ...]) -> None:
    field, share = noise(2, 3, *shape), torch.tensor([1.5, 3.0], device=DEVICE)
    form = Roughness(shape, (10.0, 11.0, 12.0), 0.05, torch.tensor([0.25, 0.5], device=DEVICE))
    total = torch.ones_like(field)
    fused.add_gradient(form, field, share, total)
    assert close(total, 1 + 2 * share.reshape(2, 1, 1, 1, 1) * form.half_gradient(field))


@pytest.mark.parametrize(
    ("shape", "factor", "level", "labels", "padded"),
    [
        ((12, 10, 14), 2, 1, 0, False),
        ((9, 11, 13), 2, 1, 0, True),
        ((9, 11, 13), 2, 2, 2, True),
        ((9, 8, 10), 1, 1, 2, True),
    ],
)
def test_the_gradient_of_a_level(
    shape: tuple[int, ...], factor: int, level: int, labels: int, padded: bool, switch: Switch
) -> None:
    pairs, nodes = pairs_of(shape, labels, padded), coarse_shape(shape, max(level, factor))
    config = RegistrationConfig()
    assert config.velocity is not None
    raw, found = 3 * noise(2, 3, *nodes), []
    for used in (False, True):
        switch(used)
        one = svf._Level(pairs.at(level), crooked(), config, config.velocity, nodes)
        gradient = one.gradient(raw)
        moved, mean, square = raw.clone(), torch.zeros_like(raw), torch.ones_like(raw)
        descent._move(moved, gradient, mean, square, raw.new_tensor([0.3, 1.2]))
        found.append((gradient, moved, mean, square))
    assert all(close(*both) for both in zip(found[1], found[0], strict=True))
    assert found[0][0].abs().max() > 0


@pytest.mark.parametrize("padded", [False, True])
def test_the_agreement_of_affine_maps(padded: bool, switch: Switch) -> None:
    pairs = pairs_of((9, 11, 13), 0, padded)
    log = (0.1 * noise(2, 4, 4).double()).requires_grad_()
    log.data[:, 3] = 0
    found = []
    for used in (False, True):
        switch(used)
        agreement = affine._Agreement(pairs, RegistrationConfig())
        value = agreement(affine_exp(log), affine_exp(-log))
        (by_log,) = torch.autograd.grad(value.sum(), [log])
        found.append((value.detach(), by_log))
    assert found[0][0].abs().max() < 2
    assert all(close(*both) for both in zip(found[1], found[0], strict=True))
