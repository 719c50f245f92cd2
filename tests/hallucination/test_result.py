import math

import numpy as np
import pytest

from dreamorph.hallucination import CheckResult, Finding, to_table
from dreamorph.hallucination.result import COLUMNS, judge


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (Finding(0.0, 0.0, "0", 3, True), "pass"),
        (Finding(1.0, 0.0, "0", 3, False), "fail"),
        (Finding(1.0, None, "-", 3, None), "not_assessable"),
        (Finding(math.nan, None, "-", 0, None), "not_assessable"),
        # fail closed
        (Finding(math.nan, 0.0, "0", 3, True), "fail"),
        (Finding(math.inf, 0.0, "0", 3, True), "fail"),
        (Finding(0.0, math.nan, "0", 3, True), "fail"),
        (Finding(0.0, 0.0, "0", 0, True), "not_assessable"),
        (Finding(0.0, 0.0, "0", 3, np.bool_(False)), "fail"),
    ],
)
def test_judge(finding, verdict):
    assert judge(finding)[0] == verdict


def test_table_has_stable_columns_and_types():
    row = CheckResult("a", "dreams", "gate", "q", "%", 1, None, "r", 3, "pass", "", "-")
    table = to_table([row, row])
    assert tuple(table.columns) == COLUMNS
    assert table["value"].dtype == table["threshold"].dtype == float
    assert table["n"].dtype == int
    assert tuple(to_table([]).columns) == COLUMNS
