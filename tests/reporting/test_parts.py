"""Numbers and tables as they are printed."""

import math

import numpy as np
import pandas as pd
import pytest

from dreamorph.reporting.parts import Table, cell, flat, from_frame, listed, number, signed
from dreamorph.reporting.wording import MINUS, NOTHING


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (0.81234, "0.812"),
        (12.0, "12"),
        (1.234, "1.23"),
        (123.44, "123.4"),
        (301.0, "301"),
        (0.00012, "0.0001"),
        (3.1e-7, "3.10e-07"),
        (math.nan, NOTHING),
        (math.inf, NOTHING),
    ],
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


def test_signed_differences() -> None:
    assert signed(0.0123) == "+0.012"
    assert signed(-0.5) == f"{MINUS}0.500"
    assert signed(-0.0001) == "0.000"
    assert signed(None) == signed(math.nan) == NOTHING


def test_cells() -> None:
    assert cell(None) == cell(pd.NA) == NOTHING
    assert cell(True) == cell(np.bool_(True)) == "yes"
    assert cell(3) == "3"
    assert cell((4, 2)) == "4, 2"


def test_numeric_columns_are_known() -> None:
    table = listed("c", ("name", "value"), [["a", 1.5], ["b", None]], "none")
    assert isinstance(table, Table)
    assert table.numeric == {1}
    assert table.rows == (("a", "1.50"), ("b", NOTHING))


def test_no_rows_give_the_sentence() -> None:
    assert listed("c", ("a",), [], "none") == "none"
    assert from_frame("c", None, "none") == from_frame("c", pd.DataFrame(), "none") == "none"


def test_nested_parameters_get_dotted_names() -> None:
    values = {"a": {"b": {"c": 1}, "d": (1, 2)}, "e": {}}
    assert flat(values) == [("a.b.c", "1"), ("a.d", "1, 2"), ("e", "{}")]
