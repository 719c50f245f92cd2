"""Files below a folder, through links to folders as well."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_in(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """Files in a folder, or at any depth below it; hidden ones and hidden folders are left out.

    Links to folders are followed, none twice and none upwards. A link that leads nowhere counts as
    a file.
    """
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if recursive and not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))
