"""Presets and what may be changed of them."""

import pytest
from pydantic import ValidationError

from dreamorph.registration import RegistrationConfig, VelocityConfig
from dreamorph.registration.config import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_survives_a_round_trip(preset: str) -> None:
    config = RegistrationConfig(preset=preset)
    assert RegistrationConfig(**config.model_dump()) == config


def test_the_default_preset_is_the_default() -> None:
    assert RegistrationConfig(preset="default") == RegistrationConfig()


def test_what_is_given_counts_more_than_the_preset() -> None:
    config = RegistrationConfig(preset="fast", window=7, velocity={"sigma": 2.5})
    assert config.velocity is not None
    assert config.velocity.levels == PRESETS["fast"]["velocity"]["levels"]
    assert (config.window, config.velocity.sigma) == (7, 2.5)
    assert RegistrationConfig(preset="fast", velocity=None).velocity is None


def test_a_config_changes_a_preset_as_its_parameters_do() -> None:
    """Its defaults were not given: they took the place of the preset's."""
    told = RegistrationConfig(preset="fast", velocity=VelocityConfig(sigma=2.5))
    assert told == RegistrationConfig(preset="fast", velocity={"sigma": 2.5})
    assert told.velocity is not None
    assert told.velocity.iterations == PRESETS["fast"]["velocity"]["iterations"]
    whole = VelocityConfig(levels=(2,), iterations=(7,))
    assert RegistrationConfig(preset="accurate", velocity=whole).velocity == whole
    plain = RegistrationConfig(velocity=VelocityConfig(sigma=2.5))
    assert plain.velocity == VelocityConfig(sigma=2.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "best"}, "preset"),
        ({"similarity": "ssd"}, "similarity"),
        ({"velocity": {"levels": [2]}}, "as many iterations as levels"),
        ({"velocity": {"levels": [1, 2, 4]}}, "from coarse to fine"),
        ({"affine": {"levels": [2, 2]}}, "from coarse to fine"),
        ({"affine": {"levels": [2, 0]}}, "from coarse to fine"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RegistrationConfig(**given)


def test_a_window_has_a_middle() -> None:
    with pytest.raises(ValidationError, match="expected an odd number of voxels, got 4"):
        RegistrationConfig(window=4)
