"""Simulated patients with a known prior, and the judge of how well it is recovered."""

from dreamorph.simulation.anatomy import LABEL_NAMES, Anatomy, load_anatomy
from dreamorph.simulation.config import AppearanceConfig, ShapeConfig, SimulationConfig
from dreamorph.simulation.folder import (
    MANIFEST_FILE,
    TRUTH_FILE,
    is_written,
    simulation_fingerprint,
    write_cohort,
)
from dreamorph.simulation.patients import (
    CLASSES,
    SimulatedCohort,
    SimulatedVolume,
    simulate,
)
from dreamorph.simulation.recovery import (
    ModeRecovery,
    RegistrationError,
    mode_recovery,
    registration_error_mm,
)
from dreamorph.simulation.shapes import Shape, ShapePrior, draw_shape, shape_prior
from dreamorph.simulation.truth import Truth

__all__ = [
    "CLASSES",
    "LABEL_NAMES",
    "MANIFEST_FILE",
    "TRUTH_FILE",
    "Anatomy",
    "AppearanceConfig",
    "ModeRecovery",
    "RegistrationError",
    "Shape",
    "ShapeConfig",
    "ShapePrior",
    "SimulatedCohort",
    "SimulatedVolume",
    "SimulationConfig",
    "Truth",
    "draw_shape",
    "is_written",
    "load_anatomy",
    "mode_recovery",
    "registration_error_mm",
    "shape_prior",
    "simulate",
    "simulation_fingerprint",
    "write_cohort",
]
