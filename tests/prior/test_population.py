"""Population maps from pairwise maps."""

import pytest
import torch

from dreamorph.errors import PriorError
from dreamorph.prior import (
    connected_groups,
    largest_group,
    population_affines,
    solve_population,
)
from dreamorph.prior.basis import CosineBasis
from dreamorph.spatial import affine_exp, affine_log

PAIRS = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
FIXED, MOVING = zip(*PAIRS, strict=True)


def test_consistent_differences_give_back_the_fields() -> None:
    truth = torch.randn(4, 3, 5, 6, 4)
    truth -= truth.mean(0)
    velocities = torch.stack([truth[j] - truth[i] for i, j in PAIRS])
    members = solve_population(velocities, FIXED, MOVING, 4).members
    assert torch.allclose(members, truth.double(), atol=1e-5)


def test_noise_of_the_pairs_is_averaged_down() -> None:
    """Ten volumes in all 45 pairs: the error of a field is far below that of a pair."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(i, j) for i in range(10) for j in range(i)]
    fixed, moving = zip(*pairs, strict=True)
    noise = torch.randn(len(pairs), 2000, generator=generator)
    fields = solve_population(noise, fixed, moving, 10).members
    assert fields.var() == pytest.approx(9 / 10 / 10, rel=0.05)


def test_coefficients_of_the_pairs_give_the_coefficients_of_the_members() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [(i, j) for i in range(6) for j in range(i)]
    fixed, moving = zip(*pairs, strict=True)
    velocities = torch.randn(len(pairs), 3, 9, 10, 8, generator=generator)
    basis = CosineBasis.up_to((9, 10, 8), (18.0, 20.0, 16.0), 4.0)
    fields = solve_population(velocities, fixed, moving, 6)
    found = solve_population(basis.analyse(velocities.double()), fixed, moving, 6)
    assert torch.allclose(found.members, basis.analyse(fields.members), rtol=0, atol=1e-6)
    assert torch.allclose(found.residuals, basis.analyse(fields.residuals), rtol=0, atol=1e-6)


def test_pairs_carry_twice_the_variance_of_the_population() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(12, 500, generator=generator)
    pairs = [(i, j) for i in range(12) for j in range(i)]
    fixed, moving = zip(*pairs, strict=True)
    velocities = truth[list(moving)] - truth[list(fixed)]
    fields = solve_population(velocities, fixed, moving, 12).members
    assert velocities.square().mean() / fields.var(0).mean() == pytest.approx(2.0, rel=0.01)


def test_the_error_of_registration_is_told_from_the_population() -> None:
    """Smooth truth, rough error in every pair: the filter brings the fields closer to the truth."""
    generator = torch.Generator().manual_seed(0)
    basis = CosineBasis.up_to((10, 12, 8), (20.0, 24.0, 16.0), 2.0)
    falloff = (1 + (30 * basis.frequency()) ** 2) ** -2.0
    shape = (16, basis.size)
    truth = torch.randn(shape, generator=generator, dtype=torch.float64) * falloff * 3
    truth = basis.synthesise(truth - truth.mean(0))
    pairs = [(i, j) for i in range(16) for j in range(i) if (i + j) % 3 < 2]
    fixed, moving = zip(*pairs, strict=True)
    errors = 0.05 * torch.randn(len(pairs), basis.size, generator=generator, dtype=torch.float64)
    velocities = truth[list(moving)] - truth[list(fixed)] + basis.synthesise(errors)
    population = solve_population(basis.analyse(velocities), fixed, moving, 16)
    before = (basis.synthesise(population.members) - truth).square().mean()
    after = (population.without_noise(basis) - truth).square().mean()
    assert after < 0.5 * before


def test_without_error_nothing_is_filtered() -> None:
    basis = CosineBasis.up_to((6, 6, 6), (12.0, 12.0, 12.0), 2.0)
    truth = torch.randn(5, basis.size, dtype=torch.float64)
    truth -= truth.mean(0)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    fixed, moving = zip(*pairs, strict=True)
    population = solve_population(truth[list(moving)] - truth[list(fixed)], fixed, moving, 5)
    assert torch.allclose(population.without_noise(basis), basis.synthesise(truth), atol=1e-6)


def test_separate_groups_are_refused() -> None:
    with pytest.raises(PriorError, match="2 separate groups"):
        solve_population(torch.zeros(2, 3), [0, 2], [1, 3], 4)


def test_affine_maps_are_reconciled_despite_one_gone_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    logs = torch.zeros(6, 4, 4, dtype=torch.float64)
    logs[:, :3] = 0.1 * torch.randn(6, 3, 4, generator=generator, dtype=torch.float64)
    maps = affine_exp(logs - logs.mean(0))
    pairs = [(i, j) for i in range(6) for j in range(i)]
    affines = torch.stack([maps[j] @ torch.linalg.inv(maps[i]) for i, j in pairs])
    affines[3, 0, 3] += 20.0
    fixed, moving = zip(*pairs, strict=True)
    found = population_affines(affines, fixed, moving, 6, iterations=20)
    relative = affine_log(found[2:3] @ torch.linalg.inv(found[0:1]))
    expected = affine_log(maps[2:3] @ torch.linalg.inv(maps[0:1]))
    assert (relative - expected).abs().max() < 0.05


def test_a_failed_pair_counts_only_where_nothing_else_joins_its_volumes() -> None:
    logs = torch.zeros(4, 4, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    logs[:, :3] = 0.1 * torch.randn(4, 3, 4, generator=generator, dtype=torch.float64)
    maps = affine_exp(logs)
    affines = torch.stack([maps[j] @ torch.linalg.inv(maps[i]) for i, j in PAIRS])
    good = population_affines(affines, FIXED, MOVING, 4)
    affines[4] = torch.eye(4, dtype=torch.float64)  # what a failed registration leaves
    known = population_affines(affines, FIXED, MOVING, 4, failed=[False] * 4 + [True])
    unknown = population_affines(affines, FIXED, MOVING, 4)
    assert (known - good).abs().max() < 1e-3
    assert (unknown - good).abs().max() > 10 * (known - good).abs().max()
    alone = population_affines(affines[4:], [0], [1], 2, failed=[True])
    assert torch.allclose(alone, torch.eye(4, dtype=torch.float64))


def test_a_pair_that_turns_by_half_a_circle_says_nothing() -> None:
    """Such a map has no real logarithm; the others decide."""
    logs = torch.zeros(4, 4, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    logs[:, :3] = 0.1 * torch.randn(4, 3, 4, generator=generator, dtype=torch.float64)
    maps = affine_exp(logs)
    affines = torch.stack([maps[j] @ torch.linalg.inv(maps[i]) for i, j in PAIRS])
    without = population_affines(affines[:4], FIXED[:4], MOVING[:4], 4)
    affines[4] = torch.diag(torch.tensor([-1.0, -1.2, 1.0, 1.0]))
    with pytest.raises(ValueError, match="real logarithm"):
        affine_log(affines[4:])
    assert (population_affines(affines, FIXED, MOVING, 4) - without).abs().max() < 1e-3
    alone = population_affines(affines[4:], [0], [1], 2)
    assert torch.allclose(alone, torch.eye(4, dtype=torch.float64).expand(2, 4, 4))


def test_members_are_grouped_by_the_pairs_that_join_them() -> None:
    assert connected_groups([5, 0, 2], [2, 1, 6], 7) == [[0, 1], [2, 5, 6], [3], [4]]
    assert connected_groups([], [], 2) == [[0], [1]]


@pytest.mark.parametrize(
    ("labelled", "kept"),
    [
        ([1, 1, 0, 0, 0, 0], [0, 1]),  # more labelled volumes, though fewer members
        ([1, 0, 1, 0, 0, 0], [2, 3, 4]),  # as many labelled ones: more members
        ([0, 0, 0, 0, 0, 1], [5]),
    ],
)
def test_the_group_with_most_labelled_volumes_is_kept(labelled: list[int], kept: list[int]) -> None:
    assert largest_group([0, 2, 3], [1, 3, 4], [bool(x) for x in labelled]) == kept


def test_of_equal_groups_the_first_is_kept() -> None:
    assert largest_group([2, 0], [3, 1], [True] * 4) == [0, 1]


def test_a_circle_of_failed_pairs_still_joins_its_volumes() -> None:
    """All other volumes hang by one pair, on which nothing is left after a round."""
    pairs = [(0, 1), (1, 2), (2, 0), *((0, k) for k in range(3, 13))]
    generator = torch.Generator().manual_seed(5)
    logs = torch.zeros(13, 4, 4, dtype=torch.float64)
    logs[:, :3] = 0.1 * torch.randn(13, 3, 4, generator=generator, dtype=torch.float64)
    affines = affine_exp(logs)
    fixed, moving = ([pair[end] for pair in pairs] for end in (0, 1))
    failed = [True] * 3 + [False] * 10
    found = population_affines(affines, fixed, moving, 13, failed=failed)
    hanging = found[3:] @ torch.linalg.inv(found[:1])
    assert (hanging - affines[3:]).abs().max() < 1e-6
