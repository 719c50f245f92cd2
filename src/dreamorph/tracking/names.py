"""Names that MLflow takes, for labels and structures that may be called anything."""

import re
from collections.abc import Iterable

_REFUSED = re.compile(r"[^/\w.\- :]")
_LONGEST = 250


def tidy_names(names: Iterable[str]) -> dict[str, str]:
    """Each name as MLflow takes it; different ones stay different.

    It refuses most signs, names that are no plain path (`a//b`, `a/`, `../a`), and long ones.
    """
    tidied: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        parts = _REFUSED.sub("_", name).split("/")
        tidy = "/".join("_" if part in ("", ".", "..") else part for part in parts)[:_LONGEST]
        number, free = 1, tidy
        while free in taken:
            number += 1
            ending = f" {number}"
            free = tidy[: _LONGEST - len(ending)] + ending
        tidied[name] = free
        taken.add(free)
    return tidied
