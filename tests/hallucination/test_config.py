"""Parameters of the audit make it stricter and never looser."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from dreamorph.hallucination import AuditConfig, RemovalConfig
from dreamorph.tracking.failures import describe_validation

#: Of each parameter one value too loose, and a stricter one.
SIDES: dict[str, tuple[Any, Any]] = {
    "confidence": (0.96, 0.9),
    "severity": ({"remove": "claim"}, {"baseline_first": "gate"}),
    "min_subjects": (3, 5),
    "min_real_cases": (9, 20),
    "min_test_subjects": (5, 8),
    "useful_bound": (1.0, 0.5),
    "provenance_tolerance": (1e-4, 1e-6),
    "topology_sigma_voxels": (0.8, 0.0),
    "topology_controls": (13, 0),
    "duplicate_correlation": (0.99, 0.9),
    "two_sample_dreams_per_subject": (2, 30),
    "two_sample_permutations": (50, 500),
    "two_sample_components": (1, 8),
    "two_sample_detectable_auc": (0.95, 0.8),
    "diversity_pairs": (10, 100),
    "diversity_ssim_margin": (0.1, 0.0),
    "diversity_overlap_margin": (0.2, 0.0),
    "diversity_min_strength": (0.0, 0.5),
    "diversity_coverage_margin": (0.5, 0.1),
    "diversity_min_spread": (0.0, 0.5),
    "remove_floor_share": (0.15, 0.05),
    "remove_cap_share": (0.9, 0.15),
    "remove_min_dice": (0.1, 0.7),
    "remove_min_sham_dice": (0.5, 0.9),
    "gate_provenance": (False, True),
}
OF_PAINTING: dict[str, tuple[Any, Any]] = {
    "dilate_voxels": (3, 1),
    "noise": (False, True),
    "sham_share": (0.2, 0.8),
}


def test_no_parameter_is_forgotten() -> None:
    assert set(AuditConfig.model_fields) == {*SIDES, "seed", "removal"}
    assert set(RemovalConfig.model_fields) == set(OF_PAINTING)


@pytest.mark.parametrize("name", [*SIDES, *OF_PAINTING])
def test_canary_a_parameter_that_would_let_more_pass(name: str) -> None:
    of = AuditConfig if name in SIDES else RemovalConfig
    loose, strict = (SIDES | OF_PAINTING)[name]
    with pytest.raises(ValidationError) as error:
        of(**{name: loose})
    assert "\n" not in describe_validation(error.value, of)
    assert getattr(of(**{name: strict}), name) == strict


@pytest.mark.parametrize(
    "name", [name for name, sides in SIDES.items() if isinstance(sides[0], float)]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_canary_a_bound_that_is_no_number(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        AuditConfig(**{name: value})
