"""Typed parameters refuse what cannot work."""

import pytest
from pydantic import ValidationError

from dreamorph.volumes.config import CohortConfig, SplitConfig, SubjectRule


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (CohortConfig, {"spacing": (1, 1, 1)}, "Extra inputs"),
        (CohortConfig, {"path": ""}, "expected a file or folder, or null"),
        (CohortConfig, {"manifest": " "}, "expected a file or folder, or null"),
        (CohortConfig, {"spacing_mm": (1, 0, 1)}, "positive millimetres"),
        (CohortConfig, {"ct_window_hu": (300, -100)}, "lower < upper"),
        (CohortConfig, {"mr_percentiles": (0, 101)}, "percentiles within"),
        (CohortConfig, {"layout": "dcm"}, "Input should be"),
        (CohortConfig, {"structures": {}}, "expected 1 to 255 labels"),
        (CohortConfig, {"structures": {"liver": "("}}, "not a regular expression"),
        (CohortConfig, {"series_description": "["}, "not a regular expression"),
        (CohortConfig, {"grid_multiple": 160}, "no grid is as small"),
        (CohortConfig, {"grid_multiple": 16, "max_grid_voxels": 1000}, "no grid is as small"),
        (SubjectRule, {"regex": "abc"}, "expected a group"),
        (SubjectRule, {"regex": "(abc"}, "not a regular expression"),
        (SubjectRule, {"cases_per_subject": 2}, "needs a regex"),
        (SplitConfig, {"train_subjects": 0}, "greater than or equal to 1"),
        (SplitConfig, {"train_fraction": 1.0}, "less than 1"),
    ],
)
def test_bad_parameters_are_refused(kind, values, message):
    with pytest.raises(ValidationError, match=message):
        kind(**values)


def test_defaults_need_nothing():
    assert CohortConfig().path is None
    assert SplitConfig().train_subjects is None
