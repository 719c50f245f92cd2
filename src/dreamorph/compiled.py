"""Functions in machine code, by numba."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, inline: str = "never", fast: bool = False) -> F:
    """In machine code, kept on disk between processes where a folder for that is found.

    `fast` lets sums be taken in any order and be rounded less often, so that several are taken at
    once; what is not a number stays so.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "inline": inline}
    if fast:
        options["fastmath"] = {"reassoc", "contract", "arcp", "nsz"}
    try:
        made: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nothing may be written
        made = numba.njit(**options)(function)
    return made


#: The same, and put where it is called: a call for every voxel takes as long as its work.
inlined = partial(compiled, inline="always")
#: The same, with sums taken in any order.
vectorised = partial(compiled, fast=True)
