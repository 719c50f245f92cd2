import numpy as np
import pytest
import torch

from dreamorph.errors import ParameterError
from dreamorph.simulation import ShapeConfig, SimulationConfig, draw_shape, shape_prior
from dreamorph.simulation import shapes as shapes_module
from dreamorph.simulation.anatomy import load_anatomy
from dreamorph.simulation.shapes import affine_fields, smooth_fields, transforms
from dreamorph.spatial import extent, points_like, sample

CONFIG = SimulationConfig()
SPACING = (CONFIG.spacing_mm,) * 3
EXTENT = extent(CONFIG.shape, SPACING)


@pytest.fixture(scope="module")
def prior():
    return shape_prior(CONFIG)


def inner(first, second):
    return (first * second).sum(dim=0).mean()


def test_modes_are_orthonormal_and_without_enlargement(prior):
    products = torch.tensor([[float(inner(a, b)) for a in prior.modes] for b in prior.modes])
    assert torch.allclose(products, torch.eye(len(prior.modes)), atol=1e-4)
    assert max(abs(float(inner(m, prior.enlargement))) for m in prior.modes) < 1e-5


def test_modes_hold_no_affine_part(prior):
    basis = affine_fields(prior.modes.shape[2:], EXTENT).flatten(1).double()
    basis = torch.linalg.qr(basis.T)[0]
    assert (prior.modes.flatten(1).double() @ basis).abs().max() < 1e-3


def test_modes_decay(prior):
    ratio = prior.mode_sds_mm[1:] / prior.mode_sds_mm[:-1]
    assert torch.allclose(ratio, torch.full_like(ratio, CONFIG.shapes.mode_decay))
    assert prior.mode_sds_mm[0] == CONFIG.shapes.mode_sd_mm


def test_affine_fields_are_affine_velocities():
    shape = (4, 5, 6)
    fields = affine_fields(shape, (8.0, 10.0, 12.0))
    points = points_like(shape, (2.0, 2.0, 2.0))[0]
    matrix = torch.arange(12.0).reshape(4, 3)
    expected = matrix[0].reshape(3, 1, 1, 1) + torch.einsum("aj,adhw->jdhw", matrix[1:], points)
    actual = torch.einsum("k,kcdhw->cdhw", matrix.flatten(), fields)
    assert torch.allclose(actual, expected)


def test_smooth_fields_have_unit_length_and_even_variance():
    fields = smooth_fields(64, (12, 14, 10), (48.0, 56.0, 40.0), 6.0, np.random.default_rng(0))
    lengths = fields.square().sum(dim=1).flatten(1).mean(dim=1)
    assert torch.allclose(lengths, torch.ones(64), atol=1e-4)
    variance = fields.square().sum(dim=1).mean(dim=0)
    corner, centre = variance[:2, :2, :2].mean(), variance[5:7, 6:8, 4:6].mean()
    assert corner / centre < 3  # eight in the bare cosine basis


def test_longer_fields_are_smoother():
    def roughness(length_mm):
        field = smooth_fields(8, (16, 16, 16), (64.0,) * 3, length_mm, np.random.default_rng(0))
        return torch.diff(field, dim=2).square().mean()

    assert roughness(12.0) < 0.5 * roughness(4.0)


def test_enlargement_points_out_of_the_ventricles(prior):
    anatomy = load_anatomy()
    spacing = [e / n for e, n in zip(EXTENT, prior.enlargement.shape[1:], strict=True)]
    points = points_like(prior.enlargement.shape[1:], spacing)
    ventricles = sample((anatomy.labels == 1).float(), points, anatomy.extent_mm)[0, 0]
    slope = torch.stack(torch.gradient(ventricles))
    wall = slope.norm(dim=0) > 0.1
    outward = -(slope * prior.enlargement).sum(dim=0)[wall]
    assert (outward > 0).float().mean() > 0.95
    assert prior.enlargement.norm(dim=0).max() == pytest.approx(1.0)


@pytest.mark.parametrize("cls", ["normal", "enlarged"])
def test_maps_and_inverses_do_not_fold(prior, cls):
    shapes = [draw_shape(CONFIG, prior, cls, np.random.default_rng(s)) for s in range(2)]
    maps = transforms(shapes, CONFIG.shape, SPACING)
    assert maps.jacobian_determinant().min() > 0
    assert maps.inverse().jacobian_determinant().min() > CONFIG.shapes.smallest_determinant


def test_classes_differ_in_the_mean_of_the_enlargement(prior):
    """The same random stream gives both classes the same shape but for the mean."""
    normal, enlarged = (
        draw_shape(CONFIG, prior, cls, np.random.default_rng(1)) for cls in ("normal", "enlarged")
    )
    difference = enlarged.enlargement_mm - normal.enlargement_mm
    assert difference == pytest.approx(CONFIG.shapes.enlarged_mm - CONFIG.shapes.normal_mm)
    expected = difference * prior.enlargement
    assert torch.allclose(enlarged.velocity - normal.velocity, expected, atol=1e-5)


def test_amplitudes_that_fold_are_refused(monkeypatch):
    monkeypatch.setattr(shapes_module, "_ATTEMPTS", 3)
    config = SimulationConfig(shapes=ShapeConfig(mode_sd_mm=60.0))
    with pytest.raises(ParameterError, match="lower mode_sd_mm"):
        draw_shape(config, shape_prior(config), "normal", np.random.default_rng(0))
