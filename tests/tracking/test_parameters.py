"""Readable columns without secrets or patient paths."""

from pathlib import Path

import pytest

from dreamorph.config import Config
from dreamorph.tracking.names import tidy_name
from dreamorph.tracking.parameters import columns


class Registration(Config):
    learning_rate: float = 0.5
    levels: tuple[int, ...] = (4, 2)


def test_nested_and_typed_parameters_become_columns() -> None:
    assert columns({"registration": Registration(), "seed": 7, "a": {"b": {"c": None}}}) == {
        "registration.learning_rate": "0.5",
        "registration.levels": "(4, 2)",
        "seed": "7",
        "a.b.c": "None",
    }


@pytest.mark.parametrize(
    ("parameters", "column"),
    [
        ({"cohort": {"path": "/ward/doe_jane/study"}}, {"cohort.path": "hidden"}),
        ({"cohort": {"path": "ward/study/"}}, {"cohort.path": "hidden"}),
        ({"cohort": {"manifest": Path("a.csv")}}, {"cohort.manifest": "hidden"}),
        ({"cohort": {"manifest": "a.csv"}}, {"cohort.manifest": "hidden"}),
        ({"cohort": {"path": None}}, {"cohort.path": "None"}),
        ({"x": Path("/ward/study")}, {"x": "hidden"}),
        ({"x": "../ward/study"}, {"x": "hidden"}),
        ({"x": r"^(\w+)_\d/2$"}, {"x": r"^(\w+)_\d/2$"}),
        ({"subject": {"regex": "(Doe|Roe)_"}}, {"subject.regex": "hidden"}),
        ({"subject": {"regex": None}}, {"subject.regex": "None"}),
        ({"mlflow_password": "p", "api_key": {"a": 1}, "token": "t"}, {}),
        ({"odd,name": 1}, {tidy_name("odd,name"): "1"}),
        ({"empty": {}}, {"empty": "{}"}),
    ],
)
def test_what_is_kept_of_a_value(parameters: dict, column: dict) -> None:
    assert columns(parameters) == column


def test_long_values_are_cut() -> None:
    assert len(columns({"x": "y" * 10_000})["x"]) == 500
