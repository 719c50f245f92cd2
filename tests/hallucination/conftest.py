"""Shared fixtures of the hallucination tests."""

from collections.abc import Iterator

import pytest
import torch

from tests.hallucination.worlds import World, make_world


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """The volumes are tiny: a second thread costs more than it brings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def world(one_thread: None) -> World:
    """Honest evidence; tests spoil copies of it."""
    return make_world()


@pytest.fixture(scope="package")
def few(world: World) -> World:
    """The same with eight dreams, for checks that look at one dream at a time."""
    return world.few()
