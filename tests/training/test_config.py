import pytest
from pydantic import ValidationError

from dreamorph.training import TrainingConfig


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"stepz": 3}, "stepz"),
        ({"arms": ("dream", "dream")}, "arms must be distinct"),
        ({"arms": ("nightmare",)}, "nightmare"),
        ({"seeds": ()}, "at least one"),
        ({"channels": (16,)}, "at least two levels"),
        ({"dream_fraction": 1.5}, "dream_fraction"),
    ],
)
def test_mistakes_are_named(bad, message):
    with pytest.raises(ValidationError, match=message):
        TrainingConfig(**bad)
