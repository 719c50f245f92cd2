"""As many pairs at once as fit, and fewer where that was too many."""

from pathlib import Path

import pytest
import torch

from dreamorph.registration import batching


def test_out_of_memory_halves_the_batch_and_loses_no_pair() -> None:
    seen: list[tuple[int, int]] = []

    def work(part: slice) -> list[int]:
        seen.append((part.start, part.stop))
        if part.stop - part.start > 2:
            raise torch.OutOfMemoryError("too much")
        return list(range(part.start, part.stop))

    results = batching.in_batches(7, 8, work)
    assert [pair for result in results for pair in result] == list(range(7))
    assert seen[:3] == [(0, 7), (0, 4), (0, 2)]


def test_a_cpu_that_runs_out_says_so_in_a_plain_error_and_is_heard() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)

    def work(part: slice) -> int:
        if part.stop - part.start > 1:
            raise RuntimeError(str(refused.value))
        return part.start

    assert batching.in_batches(3, 4, work) == [0, 1, 2]


def test_other_errors_are_not_taken_for_it() -> None:
    def work(part: slice) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        batching.in_batches(3, 4, work)


def test_one_pair_that_does_not_fit_is_an_error() -> None:
    def work(part: slice) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        batching.in_batches(2, 1, work)


def test_the_batch_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 8 * 2 * batching.BYTES_PER_VOXEL["lncc"] * 1000

    monkeypatch.setattr(batching.psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(batching, "CONTAINER", Path("/nowhere"))
    cpu = torch.device("cpu")
    assert batching.batch_size(1000, cpu) == batching.LARGEST_BATCH["cpu"]
    assert batching.batch_size(4000, cpu) == 2
    assert batching.batch_size(10**9, cpu) == 1
    assert batching.batch_size(4000, cpu, "mind") == 1
    assert batching.batch_size(3000, cpu, "lncc", n_labels=4) == 1


def test_what_torch_keeps_of_a_gpu_s_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    each = 2 * batching.BYTES_PER_VOXEL["lncc"] * 1000
    known = {"mem_get_info": (2 * each, 99 * each), "memory_reserved": 5 * each}
    for name, value in (known | {"memory_allocated": 2 * each}).items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    assert batching.batch_size(1000, torch.device("cuda")) == 5


def test_a_container_s_limit_and_neighbours_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Memory:
        available = 10**12

    monkeypatch.setattr(batching.psutil, "virtual_memory", lambda: Memory)
    monkeypatch.setattr(batching, "CONTAINER", tmp_path)
    cpu, voxels = torch.device("cpu"), 1000
    each = 2 * batching.BYTES_PER_VOXEL["lncc"] * voxels
    (tmp_path / "memory.max").write_text(f"{6 * each}\n")
    (tmp_path / "memory.current").write_text(f"{2 * each}\n")
    assert batching.batch_size(voxels, cpu) == 4
    monkeypatch.setattr(batching, "beside_each_other", lambda: 2)
    assert batching.batch_size(voxels, cpu) == 2
    (tmp_path / "memory.max").write_text("max\n")
    assert batching.batch_size(voxels, cpu) == batching.LARGEST_BATCH["cpu"]
