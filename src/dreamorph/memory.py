"""Keep freed memory for the next tensor."""

import ctypes
import platform

#: Options of glibc's mallopt: blocks from this size on are mapped one by one; so much freed memory
#: may stay at the top of the heap; so many heaps there may be, since those of threads stay small.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Let the C library reuse large blocks instead of giving each back to the system.

    A step of a network or a registration allocates the same tensors as the step before. By default
    glibc asks the system for each of them and the system clears every page: a fifth of the time of
    a training step on a CPU. Says whether it was done; only glibc has the setting.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    options = {_MMAP_THRESHOLD: _BYTES, _TRIM_THRESHOLD: _BYTES, _ARENA_MAX: 1}
    return all(libc.mallopt(option, value) for option, value in options.items())
