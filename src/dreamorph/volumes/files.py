"""Files below a folder, through links to folders as well."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)


def files_in(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """Files in a folder, or at any depth below it; hidden ones and hidden folders are left out.

    Links to folders are followed, none twice and none upwards. A link that leads nowhere counts as
    a file. A folder that may not be read is warned of, without its name.
    """
    seen = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    for place, below, names in os.walk(folder, followlinks=True, onerror=_warn):
        real = os.path.realpath(place)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if recursive and not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _warn(error: OSError) -> None:
    logger.warning(
        "a folder of the cohort cannot be read (%s): what lies in it takes no part",
        type(error).__name__,
    )
