"""The prior: what it learns from a population that is known."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from dreamorph.errors import PriorError
from dreamorph.prior import DeformationPrior, PriorConfig
from dreamorph.prior.basis import CosineBasis, sobolev_spectrum

SHAPE, EXTENT = (12, 14, 10), (24.0, 28.0, 20.0)


def population(n: int, seed: int = 0, rank: int = 2, ndim: int = 3) -> torch.Tensor:
    """Fields spanned by a few smooth modes plus a little smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    basis = CosineBasis.up_to(SHAPE[:ndim], EXTENT[:ndim], 8.0)
    falloff = (1 + (20 * basis.frequency()) ** 2) ** -1.0
    modes = torch.randn(rank, basis.size, generator=generator, dtype=torch.float64) * falloff
    scores = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, basis.size, generator=generator, dtype=torch.float64) * falloff
    return basis.synthesise(3 * scores @ modes + 0.5 * noise).float()


def test_the_cosine_basis_is_orthonormal_and_complete_within_its_band() -> None:
    basis = CosineBasis.up_to(SHAPE, EXTENT, 4.0)
    coefficients = torch.randn(3, basis.size, dtype=torch.float64)
    fields = basis.synthesise(coefficients)
    assert torch.allclose(basis.analyse(fields), coefficients)
    assert fields.square().sum() == pytest.approx(float(coefficients.square().sum()))


@pytest.mark.parametrize("size", [1.0, 0.01, 100.0])
def test_a_sobolev_spectrum_is_found_again(size: float) -> None:
    frequency = torch.linspace(0.001, 0.2, 4000, dtype=torch.float64) / size
    truth = 3.0 * (1 + (20.0 * size * frequency) ** 2) ** -2.0
    generator = torch.Generator().manual_seed(0)
    seen = truth * torch.randn(4000, generator=generator, dtype=torch.float64).square()
    assert (sobolev_spectrum(frequency, seen) / truth).log().abs().max() < 0.3


def test_samples_have_the_variance_of_the_population() -> None:
    fields = population(40)
    prior = DeformationPrior().fit(fields, EXTENT)
    drawn = prior.sample(200, torch.Generator().manual_seed(1))
    assert drawn.var(0).mean() / fields.var(0).mean() == pytest.approx(1.0, abs=0.2)
    assert prior.energy() == pytest.approx(
        float(fields.var(0).sum() / fields[0, 0].numel()), rel=0.1
    )


def test_low_rank_structure_is_preferred_to_noise() -> None:
    prior = DeformationPrior().fit(population(30), EXTENT)
    assert prior.diagnostics["shrinkage"] <= 0.3
    assert prior.diagnostics["compactness_3"] > 0.7
    assert prior.diagnostics["gain"] > 0.5
    assert prior.diagnostics["unexplained"] < 0.3
    assert prior.diagnostics["coverage"] == pytest.approx(1.0, abs=0.4)
    own, foreign = population(1, seed=0), population(1, seed=9)
    assert prior.log_density(own) > prior.log_density(foreign)


def test_compactness_counts_no_more_modes_than_there_are() -> None:
    few = DeformationPrior().fit(population(4), EXTENT)
    named = {int(k.rpartition("_")[2]) for k in few.diagnostics if k.startswith("compactness")}
    assert max(named) == len(few.mode_variances())
    assert few.diagnostics[f"compactness_{max(named)}"] == pytest.approx(1.0)


def test_members_that_share_nothing_over_a_distance_are_mixed_locally() -> None:
    """Each half of the grid deforms by itself, by one of a few patterns of its own."""
    left, right = (population(24, seed=seed, rank=6) for seed in (1, 2))
    half = torch.zeros(SHAPE)
    half[: SHAPE[0] // 2] = 1
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    apart = left * half + right[order] * (1 - half)
    config = PriorConfig(localisations=(0.5, 0.25))
    assert "localisation_mm" in DeformationPrior(config).fit(apart[:8], EXTENT).diagnostics
    whole = DeformationPrior(config).fit(population(24), EXTENT)
    assert "localisation_mm" not in whole.diagnostics


def test_classes_differ_in_their_mean_and_share_the_rest() -> None:
    fields = population(24)
    shift = population(1, seed=7)[0]
    classes = ["a"] * 12 + ["b"] * 12
    fields[12:] += shift
    prior = DeformationPrior().fit(fields, EXTENT, classes=classes)
    assert prior.class_names == ["a", "b"]
    difference = prior.mean("b") - prior.mean("a")
    cosine = torch.nn.functional.cosine_similarity(difference.flatten(), shift.flatten(), dim=0)
    assert cosine > 0.6
    with pytest.raises(PriorError, match="unknown class"):
        prior.draw(0, "c")
    # without a class all of them count alike, in what is drawn and in how likely it is
    drawn = prior.sample(4, torch.Generator().manual_seed(0))
    known = torch.stack([prior.log_density(drawn, cls) for cls in ("a", "b")])
    mixed = prior.log_density(drawn)
    assert mixed.shape == (4,)
    assert torch.allclose(mixed, known.logsumexp(0) - torch.tensor(2.0).double().log())
    assert (mixed <= known.max(0).values).all()
    assert (mixed >= known.max(0).values - 0.7).all()


@pytest.mark.parametrize("classes", ["aab", "abb", "abc", "aabc", "aabb"])
def test_classes_of_very_few_members_are_learned(classes: str) -> None:
    prior = DeformationPrior().fit(population(len(classes)), EXTENT, classes=list(classes))
    assert prior.class_names == sorted(set(classes))
    for cls in prior.class_names:
        assert float(prior.draw(0, cls).field.sub(prior.mean(cls)).abs().max()) > 0


def test_members_that_do_not_differ_are_refused() -> None:
    one, other = population(2)
    with pytest.raises(PriorError, match="the same field"):
        DeformationPrior().fit(torch.stack([one] * 3 + [other]), EXTENT, classes=list("aaab"))
    with pytest.raises(PriorError, match="two that differ"):
        DeformationPrior().fit(torch.stack([one, one, other]), EXTENT, subjects=list("aab"))


def test_a_prior_that_could_not_be_learned_says_that_it_is_not_fitted() -> None:
    prior = DeformationPrior()
    with pytest.raises(PriorError, match="not finite"):
        prior.fit(population(4) * float("nan"), EXTENT)
    with pytest.raises(PriorError, match="not fitted"):
        prior.draw(0)


@pytest.mark.parametrize("shrinkages", [(), (0.0, 0.5), (1.0,), (1.5,)])
def test_shares_of_the_residual_are_between_none_and_all(shrinkages: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="shrinkages"):
        PriorConfig(shrinkages=shrinkages)


def test_lengths_of_a_localisation_are_above_nothing() -> None:
    assert PriorConfig(localisations=()).localisations == ()
    with pytest.raises(ValidationError, match="localisations"):
        PriorConfig(localisations=(0.5, 0.0))


def test_a_seed_names_a_draw_and_a_file_keeps_the_prior(tmp_path: Path) -> None:
    prior = DeformationPrior(PriorConfig(modes=3)).fit(population(8), EXTENT)
    prior.save(tmp_path / "prior.pt")
    again = DeformationPrior.load(tmp_path / "prior.pt")
    first, second = prior.draw(5), again.draw(5)
    assert torch.equal(first.field, second.field)
    assert torch.equal(first.affine, second.affine)
    assert prior.coefficients(first.field) == again.coefficients(second.field)
    assert again.fingerprint == prior.fingerprint
    assert not torch.equal(first.field, prior.draw(6).field)
    whole = (tmp_path / "prior.pt").read_bytes()
    cuts = [500, *range(1000, len(whole), len(whole) // 20), len(whole) - 5]
    for content in (b"", b"no prior", *(whole[:cut] for cut in cuts)):
        (tmp_path / "broken.pt").write_bytes(content)
        with pytest.raises(PriorError, match=r"^broken\.pt is not a deformation prior: .+$"):
            DeformationPrior.load(tmp_path / "broken.pt")
    with pytest.raises(FileNotFoundError):
        DeformationPrior.load(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: [state], "not a deformation prior: it names no format"),
        (lambda state: {"format": 2}, "it lacks config, fields, extent_mm"),
        (lambda state: state | {"format": 1}, "a prior of format 1, expected 2"),
        (lambda state: state | {"config": {"colour": 1}}, r"configuration \(colour: Extra inputs"),
        (lambda state: state | {"config": None}, "another configuration"),
    ],
)
def test_a_file_that_is_no_prior_gets_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    path = tmp_path / "prior.pt"
    DeformationPrior().fit(population(4), EXTENT).save(path)
    torch.save(change(torch.load(path, weights_only=True)), path)
    with pytest.raises(PriorError, match=message) as caught:
        DeformationPrior.load(path)
    assert "\n" not in str(caught.value)


def test_a_prior_that_is_not_fitted_says_so_whatever_it_is_asked(tmp_path: Path) -> None:
    prior = DeformationPrior()
    asked: list[Callable[[], Any]] = [
        lambda: prior.save(tmp_path / "prior.pt"),
        lambda: prior.extent_mm,
        lambda: prior.log_density(population(1)),
        prior.energy,
    ]
    for ask in asked:
        with pytest.raises(PriorError, match="not fitted"):
            ask()
    assert not (tmp_path / "prior.pt").exists()


def test_what_is_asked_of_a_prior_wrongly_gets_one_line() -> None:
    prior = DeformationPrior().fit(population(6), EXTENT, classes=list("aaabbb"))
    for fields in (population(1)[0], population(2)[..., :5], population(2, ndim=2)):
        with pytest.raises(PriorError, match=r"expected fields \(n, 3, 12, 14, 10\), got"):
            prior.log_density(fields)
    for given in ({"n": 0}, {"n": -1}, {"n": 2, "generator": 3}):
        with pytest.raises(PriorError, match=r"at least one field and a torch\.Generator"):
            prior.sample(**given)  # type: ignore[arg-type]
    for ask in (prior.mean, lambda: prior.mode(0), lambda: prior.draw(0)):
        with pytest.raises(PriorError, match=r"has classes: name one of \['a', 'b'\]"):
            ask()


def test_it_works_in_two_dimensions() -> None:
    prior = DeformationPrior().fit(population(8, ndim=2), EXTENT[:2])
    assert prior.sample(2).shape == (2, 2, *SHAPE[:2])
    assert prior.draw(0).affine.shape == (3, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [(torch.zeros(2, 3, *SHAPE), "three volumes"), (population(4) * float("nan"), "not finite")],
)
def test_too_little_or_bad_input_is_refused(fields: torch.Tensor, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        DeformationPrior().fit(fields, EXTENT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"members": list("abcd")}, "one of members for each of 6 fields, got 4"),
        ({"members": list("aabcde")}, "different names"),
        ({"subjects": list("abcde")}, "one of subjects for each of 6 fields, got 5"),
        ({"classes": ["x"] * 5}, "one of classes for each of 6 fields, got 5"),
        ({"affines": torch.eye(4).repeat(3, 1, 1)}, "one of affines for each of 6 fields, got 3"),
        ({"affines": -torch.eye(4).repeat(6, 1, 1)}, "mirrors"),
        ({"affines": torch.eye(3).repeat(6, 1, 1)}, r"expected affines \(N, 4, 4\)"),
        ({"affines": torch.eye(5).repeat(6, 1, 1)}, r"expected affines \(N, 4, 4\)"),
        ({"affines": torch.diag(torch.tensor([-1.0, -1, 1, 1])).repeat(6, 1, 1)}, "half a circle"),
        ({"extent_mm": EXTENT[:2]}, "3 edge lengths, got 2"),
        ({"extent_mm": (24.0, 0.0, 20.0)}, "edge lengths above 0 mm"),
        ({"extent_mm": (24.0, -28.0, 20.0)}, "edge lengths above 0 mm"),
        ({"extent_mm": (24.0, float("nan"), 20.0)}, "edge lengths above 0 mm"),
        ({"fields": population(6, ndim=2)[:, :, None]}, "a component for each axis"),
    ],
)
def test_what_does_not_fit_the_fields_is_refused(given: dict, message: str) -> None:
    if "mirrors" in message:
        given["affines"][:, 3, 3] = 1
    with pytest.raises(PriorError, match=message):
        DeformationPrior().fit(**({"fields": population(6), "extent_mm": EXTENT} | given))


def test_what_nobody_shares_is_unexplained_and_what_all_share_is_not() -> None:
    """Fields at right angles to each other, and fields in a plane."""
    noise = torch.randn(6, 3 * math.prod(SHAPE), generator=torch.Generator().manual_seed(0))
    apart = torch.linalg.qr(noise.T).Q.T.reshape(6, 3, *SHAPE)
    assert DeformationPrior().fit(apart, EXTENT).diagnostics["unexplained"] == pytest.approx(1)
    mixed = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)) @ apart[:2].flatten(1)
    plane = DeformationPrior().fit(mixed.reshape(apart.shape), EXTENT)
    assert plane.diagnostics["unexplained"] == pytest.approx(0, abs=1e-6)
    # copies, the last ones, teach nothing more and hide nothing
    deviations = apart - 0.3 * apart.mean(0)
    once = DeformationPrior().fit(deviations, EXTENT).diagnostics["unexplained"]
    subjects = [str(k) for k in range(6)] * 2
    again = DeformationPrior().fit(torch.cat([deviations] * 2), EXTENT, subjects=subjects)
    assert again.diagnostics["unexplained"] == pytest.approx(once)
