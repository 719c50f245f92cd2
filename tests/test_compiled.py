"""Functions in machine code."""

from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest

from dreamorph.compiled import compiled, vectorised


def test_without_a_folder_to_write_to_it_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def njit(cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("no locator available")
        return numba.njit(**options)

    monkeypatch.setattr("dreamorph.compiled.numba", SimpleNamespace(njit=njit))
    assert compiled(lambda a: a + 1)(2) == 3


def test_what_is_not_a_number_stays_so_when_sums_are_taken_in_any_order() -> None:
    def total(values: np.ndarray) -> float:
        found = np.float32(0)
        for k in range(len(values)):
            found += values[k] if values[k] == values[k] else np.float32(1)
        return found

    assert vectorised(total)(np.array([1, np.nan, 2] * 11, dtype=np.float32)) == 44
