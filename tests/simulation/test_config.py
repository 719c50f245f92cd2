import pytest
from pydantic import ValidationError

from dreamorph.simulation import AppearanceConfig, SimulationConfig


def test_unknown_keys_are_refused():
    with pytest.raises(ValidationError, match="modes_count"):
        SimulationConfig.model_validate({"shapes": {"modes_count": 3}})


def test_noise_must_be_a_range():
    with pytest.raises(ValidationError, match="lowest <= highest"):
        AppearanceConfig(noise=(0.2, 0.1))


def test_a_grid_too_small_for_the_anatomy_is_refused():
    with pytest.raises(ValidationError, match="raise shape or spacing_mm"):
        SimulationConfig(shape=(24, 24, 24))


def test_a_cohort_of_nobody_is_refused():
    with pytest.raises(ValidationError, match="at least one subject"):
        SimulationConfig(n_labelled=0, n_unlabelled=0, n_test=0)


def test_crops_are_even_so_that_centres_agree():
    with pytest.raises(ValidationError, match="multiple of 2"):
        AppearanceConfig(largest_crop_voxels=3)
