"""Learn how an anatomy deforms, dream new labelled volumes, and tell whether it helped."""

import os

from dreamorph.memory import keep_freed_memory

__version__ = "0.1.0"

# Threads that wait for each other by spinning are ten times slower on a machine that does anything
# else, and hardly faster on one that does not. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Sums on a GPU in the same order every time. Read when the first matrices are multiplied there.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
keep_freed_memory()
