"""Names that MLflow takes, for labels and structures that may be called anything."""

import hashlib
import re

_REFUSED = re.compile(r"[^/\w.\- :]")
_LONGEST, _MARK = 250, 6


def tidy_name(name: str) -> str:
    """A name as MLflow takes it: most are as they were.

    It refuses most signs, names that are no plain path (`a//b`, `a/`, `../a`), and long ones. What
    has to change ends with a mark of its own, so that different names stay different and the same
    one is called the same in every run.
    """
    parts = _REFUSED.sub("_", name).split("/")
    tidy = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    if tidy == name and len(name) <= _LONGEST:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:_MARK]
    return f"{tidy[: _LONGEST - _MARK - 1]}.{mark}"
