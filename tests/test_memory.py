"""Freed memory stays with the process where the C library can be told so."""

import platform
import subprocess
import sys

import pytest

from dreamorph.memory import keep_freed_memory

#: Counts the page faults of allocating and freeing 64 MB over and over.
FAULTS = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    import dreamorph
for _ in range(20):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_a_tensor_reuses_the_memory_of_the_one_before() -> None:
    assert keep_freed_memory()
    kept, given_back = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, how])) for how in ("keep", "no")
    )
    assert kept < 0.1 * given_back


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
