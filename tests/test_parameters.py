"""What the parameters of a whole run have to be, beyond those of its parts."""

import pytest

from dreamorph.errors import ParameterError
from dreamorph.parameters import Parameters
from dreamorph.tracking.failures import check_parameters


def test_a_prior_is_learned_from_deformable_registrations() -> None:
    with pytest.raises(ParameterError, match="expected a deformable step") as caught:
        check_parameters({"registration": {"velocity": None}}, Parameters)
    assert len(str(caught.value)) < 400
    check_parameters({"atlas_fusion": {"registration": {"velocity": None}}}, Parameters)
