import numpy as np
import pytest

from dreamorph.hallucination.ranges import outside_rates

REAL = np.array([[0.0], [1.0], [2.0], [10.0]])
OWNERS = [(name,) for name in "abcd"]


def share_outside(value, source):
    found = outside_rates(REAL, OWNERS, np.array([[value]]), [source], (0.0, 100.0), 0.95)
    return found.dreams


def test_canary_a_dream_is_held_against_other_subjects_than_its_own():
    """The subject a dream is made of lies far out alone: its dreams would hide in its own range."""
    assert share_outside(9.0, "d") == 1
    assert share_outside(9.0, "a") == 0
    assert share_outside(0.5, "a") == 1
    assert share_outside(0.5, "d") == 0
    assert share_outside(9.0, "unknown") == 0


def test_real_subjects_are_held_against_the_others_too():
    found = outside_rates(REAL, OWNERS, REAL, list("abcd"), (0.0, 100.0), 0.95)
    assert (found.reals, found.dreams) == (0.5, 0.5)  # the two at the ends
    assert (found.n_subjects, found.n_dreams) == (4, 4)
    assert found.bound == pytest.approx(0.902, abs=1e-3)


def test_nothing_to_compare_is_nan():
    found = outside_rates(REAL[:1], OWNERS[:1], REAL[:0], [], (0.0, 100.0), 0.95)
    assert np.isnan([found.dreams, found.reals, found.bound]).all()
