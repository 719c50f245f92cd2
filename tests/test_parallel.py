"""Work side by side: the same results in the same order, and no thread left limited."""

import threading
import time

import pytest
import torch

from dreamorph.parallel import StoppedError, raise_if_stopped, side_by_side


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


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one core: nothing runs beside the caller")
def test_work_in_progress_ends_when_the_caller_is_interrupted() -> None:
    stopped: list[int] = []
    second_is_at_work = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            second_is_at_work.wait()
            return item
        second_is_at_work.set()
        try:
            for _ in range(1000):
                raise_if_stopped()
                time.sleep(0.01)
        except StoppedError:
            stopped.append(item)
            raise
        return item

    results = side_by_side(work, range(3))
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert 1 in stopped


def test_nobody_stops_work_that_runs_alone() -> None:
    raise_if_stopped()
