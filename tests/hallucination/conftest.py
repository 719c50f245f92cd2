"""Shared fixtures of the hallucination tests."""

import pytest

from tests.hallucination.worlds import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
