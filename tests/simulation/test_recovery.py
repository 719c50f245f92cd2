from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamorph.errors import ParameterError
from dreamorph.simulation import mode_recovery, registration_error_mm
from dreamorph.simulation.shapes import affine_fields, smooth_fields
from dreamorph.spatial import SpatialTransform, extent, points_like, resample, sample

SHAPE, SPACING = (48, 56, 40), (2.0, 2.0, 2.0)
EXTENT = extent(SHAPE, SPACING)


@pytest.fixture(scope="module")
def modes(cohort):
    """Fields that hold nothing but the true modes and the enlargement, of twelve subjects."""
    directions = cohort.truth.directions
    coefficients = torch.from_numpy(np.random.default_rng(0).standard_normal((12, 5))).float()
    return directions, torch.einsum("nk,kcdhw->ncdhw", coefficients, directions)


def test_the_truth_recovers_itself(modes):
    directions, fields = modes
    result = mode_recovery(fields, fields, directions, EXTENT, EXTENT)
    assert result.n_modes == 5
    for name in ("explained", "explained_at_best", "subspace_overlap", "field_correlation"):
        assert getattr(result, name) == pytest.approx(1, abs=1e-6), name
    assert result.sd_ratio == pytest.approx(1, abs=1e-6)
    assert result.enlargement_correlation == pytest.approx(1, abs=1e-6)
    assert result.explained_by_chance < 0.3


def test_neither_mean_nor_affine_part_nor_scale_hides_the_modes(modes):
    directions, fields = modes
    generator = torch.Generator().manual_seed(0)
    affine = affine_fields(tuple(fields.shape[2:]), EXTENT)
    moved = torch.einsum("nk,kcdhw->ncdhw", torch.randn(12, 12, generator=generator), affine)
    learned = 0.5 * fields + moved + 3 * directions[0]
    result = mode_recovery(fields, learned, directions, EXTENT, EXTENT)
    assert result.subspace_overlap == pytest.approx(1, abs=1e-4)
    assert result.sd_ratio == pytest.approx(0.5, abs=1e-3)
    assert result.enlargement_sd_ratio == pytest.approx(0.5, abs=1e-3)


def test_other_modes_are_not_taken_for_the_true_ones(modes):
    directions, fields = modes
    shape = tuple(fields.shape[2:])
    other = smooth_fields(12, shape, EXTENT, 10.0, np.random.default_rng(7))
    result = mode_recovery(fields, other, directions, EXTENT, EXTENT)
    assert result.explained < 0.3
    assert result.subspace_overlap < 0.3
    assert abs(result.field_correlation) < 0.3


def test_shuffled_subjects_keep_the_modes_but_lose_the_fields(modes):
    directions, fields = modes
    result = mode_recovery(fields, fields.roll(1, dims=0), directions, EXTENT, EXTENT)
    assert result.subspace_overlap == pytest.approx(1, abs=1e-6)
    assert result.field_correlation < 0.5


def test_learned_fields_may_live_on_a_larger_and_finer_grid(modes):
    directions, fields = modes
    shape, spacing = (30, 34, 26), (4.0, 4.0, 4.0)
    larger = sample(fields, points_like(shape, spacing), EXTENT)
    finer = resample(larger, (60, 68, 52))
    result = mode_recovery(fields, finer, directions, EXTENT, extent(shape, spacing))
    assert result.subspace_overlap > 0.97
    assert result.field_correlation > 0.97


def test_only_the_common_part_of_smaller_grids_counts(modes):
    directions, fields = modes
    shape, spacing = (20, 22, 16), (4.0, 4.0, 4.0)
    smaller = sample(fields, points_like(shape, spacing), EXTENT)
    result = mode_recovery(fields, smaller, directions, EXTENT, extent(shape, spacing))
    assert result.subspace_overlap > 0.97
    assert result.enlargement_correlation > 0.97


def test_mirrored_learned_modes_are_chance(modes):
    directions, fields = modes
    result = mode_recovery(fields, fields.flip(3, 4), directions, EXTENT, EXTENT)
    assert result.explained < 0.3
    assert result.explained_by_chance == pytest.approx(1, abs=1e-4)


def test_numbers_of_subjects_must_agree(modes):
    directions, fields = modes
    with pytest.raises(ParameterError, match="same three or more subjects"):
        mode_recovery(fields, fields[:5], directions, EXTENT, EXTENT)


def test_the_identity_leaves_the_error_as_it_was(cohort):
    maps = SpatialTransform.identity(1, SHAPE, SPACING)
    error = registration_error_mm(cohort.truth, ["sim_001"], ["sim_002"], maps)
    assert torch.equal(error.after_mean_mm, error.before_mean_mm)
    assert torch.equal(error.after_p95_mm, error.before_p95_mm)


def test_the_template_as_fixed_volume_gives_an_error_of_zero(cohort):
    """A pair whose fixed volume is the template itself has the subject's own map as its truth."""
    truth = cohort.truth
    velocities, affines = truth.velocities.clone(), truth.affines.clone()
    velocities[0], affines[0] = 0, torch.eye(4)
    truth = replace(truth, velocities=velocities, affines=affines)
    maps = truth.transforms(["sim_002"])
    error = registration_error_mm(truth, ["sim_001"], ["sim_002"], maps)
    assert error.after_mean_mm.item() == pytest.approx(0, abs=1e-3)
    assert error.before_mean_mm.item() > 1


def test_a_known_shift_is_a_known_error(cohort):
    truth = replace(
        cohort.truth,
        velocities=torch.zeros_like(cohort.truth.velocities),
        affines=torch.eye(4, dtype=torch.float64).repeat(len(cohort.truth.cases), 1, 1),
    )
    shift = torch.eye(4, dtype=torch.float64)[None]
    shift[0, :3, 3] = torch.tensor([3.0, 0.0, 4.0])
    maps = SpatialTransform.identity(1, SHAPE, SPACING).before(shift)
    region = torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)
    region[..., 20:30, 20:30, 20:30] = 2
    error = registration_error_mm(truth, ["sim_001"], ["sim_002"], maps, region)
    assert error.before_mean_mm.item() == pytest.approx(0, abs=1e-3)
    assert error.after_mean_mm.item() == pytest.approx(5, abs=1e-3)
    assert error.after_p95_mm.item() == pytest.approx(5, abs=1e-3)


def test_pairs_and_regions_are_checked(cohort):
    maps = SpatialTransform.identity(2, SHAPE, SPACING)
    with pytest.raises(ParameterError, match="one fixed and one moving"):
        registration_error_mm(cohort.truth, ["sim_001"], ["sim_002"], maps)
    with pytest.raises(ParameterError, match="region is empty"):
        registration_error_mm(
            cohort.truth,
            ["sim_001"],
            ["sim_002"],
            maps[:1],
            torch.zeros(1, 1, *SHAPE),
        )
