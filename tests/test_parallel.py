"""Work side by side: the same results in the same order, and no thread left limited."""

import threading

import pytest
import torch

from dreamorph.parallel import side_by_side


def test_results_come_in_order_from_several_workers() -> None:
    before, seen = torch.get_num_threads(), set()

    def work(item: int) -> int:
        seen.add(threading.current_thread().name)
        return item * item

    assert list(side_by_side(work, range(20))) == [k * k for k in range(20)]
    assert torch.get_num_threads() == before
    assert len(seen) >= 1


def test_an_error_reaches_the_caller_and_the_threads_are_given_back() -> None:
    before = torch.get_num_threads()

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(side_by_side(work, range(10)))
    assert torch.get_num_threads() == before


def test_stopping_early_begins_no_further_item() -> None:
    begun: list[int] = []
    results = side_by_side(lambda item: begun.append(item) or item, range(100))
    next(results)
    results.close()
    assert len(begun) <= 4
