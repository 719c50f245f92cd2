"""How many pairs fit in memory at once."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from dreamorph.parallel import beside_each_other
from dreamorph.registration.config import Similarity

logger = logging.getLogger(__name__)

#: Bytes held per voxel and pair while a gradient is computed, and per label that guides it;
#: measured at 96^3 and rounded up.
BYTES_PER_VOXEL: dict[Similarity, int] = {"lncc": 300, "mind": 1000}
BYTES_PER_LABEL = 50
#: Beyond 8, larger batches were not faster on a CPU; on a GPU 256 pairs at once were registered 1.3
#: to 1.5 times as fast as 64 (docs/benchmarks.md), and more were not tried.
LARGEST_BATCH = {"cpu": 8, "cuda": 256}

#: Where Linux tells a container its limits.
CONTAINER = Path("/sys/fs/cgroup")

T = TypeVar("T")


def batch_size(
    voxels: int, device: torch.device, similarity: Similarity = "lncc", n_labels: int = 0
) -> int:
    """Pairs of `voxels` voxels that fit in half of the device's free memory, at least one."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + kept  # what torch keeps is free for torch
    else:
        free = min(psutil.virtual_memory().available, _left_to_container()) // beside_each_other()
    each = BYTES_PER_VOXEL[similarity] + n_labels * BYTES_PER_LABEL
    fitting = free // 2 // (voxels * each)
    return int(max(1, min(LARGEST_BATCH.get(device.type, 1), fitting)))


def _left_to_container() -> float:
    """Bytes that a container's own limit leaves; the machine's free memory knows nothing of it."""
    try:
        limit = (CONTAINER / "memory.max").read_text().strip()
        used = (CONTAINER / "memory.current").read_text().strip()
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else max(0, int(limit) - int(used))


def in_batches(count: int, size: int, work: Callable[[slice], T]) -> list[T]:
    """Run `work` on slices of `size` out of `count`; where memory runs out, halve and try again."""
    results, start = [], 0
    while start < count:
        try:
            results.append(work(slice(start, min(start + size, count))))
            start += size
            continue
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not _out_of_memory(error):
                raise
        # here, not above: while an error is handled, it keeps what its frames hold
        logger.warning("out of memory with %d pairs at once; trying %d", size, size // 2)
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return results


def _out_of_memory(error: Exception) -> bool:
    """On a CPU torch says so in a plain RuntimeError."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)
