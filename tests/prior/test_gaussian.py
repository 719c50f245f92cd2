"""The Gaussian over fields: what is drawn has the covariance that is scored."""

import math

import pytest
import torch

from dreamorph.prior.basis import CosineBasis, sobolev_spectrum
from dreamorph.prior.gaussian import (
    MemberGaussian,
    Residual,
    choose_sites,
    fit_class,
    folds,
    on_sites,
)
from dreamorph.prior.localisation import Localisation

SHAPE, EXTENT = (10, 12, 8), (20.0, 24.0, 16.0)
BASIS = CosineBasis.up_to(SHAPE, EXTENT, 6.0)


def residual() -> Residual:
    frequency = BASIS.frequency()
    return Residual(BASIS, (1 + (10 * frequency) ** 2) ** -2.0)


def gaussian(length_mm: float, shrinkage: float, members: int = 6) -> MemberGaussian:
    generator = torch.Generator().manual_seed(0)
    fields = torch.stack([residual().sample(generator) for _ in range(members)])
    mean, factor = fit_class(fields, [None] * members, None, 4.0)
    return MemberGaussian(
        mean, factor, residual(), Localisation.of_length(SHAPE, EXTENT, length_mm), shrinkage
    )


@pytest.mark.parametrize("length_mm", [math.inf, 12.0, 5.0])
def test_draws_have_the_covariance_that_is_scored(length_mm: float) -> None:
    one = gaussian(length_mm, 0.3)
    sites = choose_sites(BASIS, 60)
    generator = torch.Generator().manual_seed(1)
    drawn = on_sites(torch.stack([one.sample(generator) for _ in range(1200)]), sites)
    at = one.at(sites)
    assert float(at.mahalanobis(drawn, 0.3).mean()) / drawn.shape[1] == pytest.approx(1, abs=0.1)
    seen = torch.cov(drawn.T)
    unwhiten = torch.linalg.inv(at.whiten)
    covariance = unwhiten @ torch.diag(0.7 * at.values + 0.3) @ unwhiten.T
    assert float((seen - covariance).norm() / covariance.norm()) < 0.25


def test_the_density_is_that_of_the_dense_gaussian() -> None:
    one, sites = gaussian(8.0, 0.4), choose_sites(BASIS, 40)
    at = one.at(sites)
    unwhiten = torch.linalg.inv(at.whiten)
    covariance = unwhiten @ torch.diag(0.6 * at.values + 0.4) @ unwhiten.T
    points = torch.randn(5, len(at.mean), dtype=torch.float64)
    dense = torch.distributions.MultivariateNormal(at.mean, (covariance + covariance.T) / 2)
    assert torch.allclose(at.log_density(points, 0.4), dense.log_prob(points))


def test_localisation_keeps_the_variance_and_adds_directions() -> None:
    sites = choose_sites(BASIS, 60)
    whole, local = gaussian(math.inf, 0.0).at(sites), gaussian(6.0, 0.0).at(sites)
    back = [torch.linalg.inv(g.whiten) @ torch.diag(g.values.sqrt()) for g in (whole, local)]
    variances = [b.square().sum(1) for b in back]
    assert torch.allclose(*variances, rtol=1e-6)
    ranks = [int((g.values > 1e-6 * g.values.max()).sum()) for g in (whole, local)]
    assert ranks[0] == 5
    assert ranks[1] > 4 * ranks[0]


def test_modes_are_orthonormal_and_carry_the_variance() -> None:
    one = gaussian(math.inf, 0.0)
    fields, variances = one.modes()
    flat = fields.flatten(1)
    assert torch.allclose(flat @ flat.T, torch.eye(5, dtype=flat.dtype), atol=1e-9)
    assert float(variances.sum()) / math.prod(SHAPE) == pytest.approx(one.variance)


def test_the_residual_has_unit_strength() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([residual().sample(generator) for _ in range(200)])
    assert float(drawn.square().sum(1).mean()) == pytest.approx(1, rel=0.05)


def test_smooth_weights_have_unit_variance_everywhere() -> None:
    taper = Localisation.of_length((16, 20), (32.0, 40.0), 8.0)
    drawn = taper.sample(4000, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.var(0), torch.ones(16, 20), atol=0.12)
    middle = [torch.tensor([8]), torch.tensor([6, 8, 10, 14])]
    correlation = taper.correlation(middle)
    expected = torch.exp(-0.5 * torch.tensor([2, 0, 2, 6]).double().mul(2).div(8).square())
    assert torch.allclose(correlation[1], expected, atol=0.05)
    assert float(torch.corrcoef(drawn[:, 8, [8, 10]].T)[0, 1]) == pytest.approx(
        float(correlation[1, 2]), abs=0.05
    )


def test_sites_are_few_enough_and_free() -> None:
    sites = choose_sites(BASIS, 100)
    assert 50 < 3 * math.prod(len(s) for s in sites) <= 100
    assert all(len(s) <= k for s, k in zip(sites, BASIS.kept, strict=True))
    values = residual().covariance(sites)
    assert torch.linalg.eigvalsh(values).min() > 0


def test_folds_leave_whole_subjects_out_once() -> None:
    subjects = ["a", "a", "b", "c", "d", "e"]
    classes = ["x", "x", "x", "x", "y", None]
    out = []
    for stay, left in folds(subjects, classes, 5):
        rows = [row for part in left.values() for row in part]
        assert not {subjects[r] for r in rows} & {subjects[r] for r in stay}
        out += rows
        assert "y" not in left  # nobody of class y stays when d is left out
    assert sorted(out) == list(range(6))


@pytest.mark.parametrize(
    "classes", [["a", "b"] * 3, ["a", "a", "b", "b", "c", "c"], ["a", "a", "a", "a", "b", "c"]]
)
def test_the_covariance_of_classes_is_not_too_narrow(classes: list[str | None]) -> None:
    """Members of unit variance: each class's mean that is taken off costs a degree of freedom."""
    fields = torch.randn(6, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for cls in (None, *sorted(set(classes))):
        _, factor = fit_class(fields, classes, cls, 4.0)
        assert float(factor.square().sum(0).mean()) == pytest.approx(1, abs=0.05)


def test_where_every_class_has_one_member_they_are_taken_together() -> None:
    fields = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    expected = fit_class(fields, [None] * 3, None, 4.0)[1]
    assert torch.equal(fit_class(fields, ["a", "b", "c"], "b", 4.0)[1], expected)


def test_a_spectrum_of_any_scale_is_the_same_residual() -> None:
    power = torch.rand(BASIS.size, dtype=torch.float64)
    spectrum = sobolev_spectrum(BASIS.frequency(), power)
    assert torch.allclose(
        Residual(BASIS, spectrum).spectrum, Residual(BASIS, 7 * spectrum).spectrum
    )
