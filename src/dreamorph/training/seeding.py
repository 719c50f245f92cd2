"""Random generators that follow from what they are for, and from nothing else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dreamorph.fingerprint import fingerprint

#: Torch's global generators are one to all threads.
_global_generators = threading.RLock()


def seed_for(*purpose: str | int) -> int:
    """A 63 bit seed that follows from the purpose, such as `(seed, "step", 12)`."""
    return int(fingerprint(*purpose), 16) % 2**63


def generator_for(*purpose: str | int) -> torch.Generator:
    """A CPU generator that follows from the purpose."""
    return torch.Generator().manual_seed(seed_for(*purpose))


@contextmanager
def alone_with_the_generators() -> Iterator[None]:
    """Keep other threads away from torch's global generators; for code that keeps or sets them."""
    with _global_generators:
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators for code that knows no other, and restore them after.

    Initial weights and dropout can draw from nothing else. One thread at a time gets in.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with alone_with_the_generators(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
