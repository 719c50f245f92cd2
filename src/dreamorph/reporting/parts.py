"""The pieces a page is put together from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dreamorph.reporting.encode import svg_uri, webp_uri
from dreamorph.reporting.wording import MINUS, NOTHING

_PIXELS_PER_INCH = 104


@dataclass(frozen=True)
class Picture:
    """An image inside the page, with words for those who cannot see it; width in CSS pixels.

    `name` and `figure` are for keeping it beside the page.
    """

    name: str
    figure: Figure
    uri: str
    alt: str
    caption: str
    width: int


@dataclass(frozen=True)
class Table:
    """A table of finished cells; `numeric` columns are set flush right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


#: A piece, or one sentence that says why there is none.
Shown = Picture | str
Listed = Table | str


def picture(
    figure: Figure | str,
    name: str,
    alt: str,
    caption: str,
    kind: Literal["webp", "svg"] = "webp",
) -> Shown:
    """Take a figure into the page; a sentence passes through."""
    if isinstance(figure, str):
        return figure
    width = round(figure.get_figwidth() * _PIXELS_PER_INCH)
    uri = svg_uri(figure) if kind == "svg" else webp_uri(figure)
    return Picture(name, figure, uri, alt, caption, width)


def listed(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], missing: str
) -> Listed:
    """A table of any values, or the sentence for none."""
    if not rows:
        return missing
    numeric = frozenset(
        k for k in range(len(columns)) if all(_is_number(row[k]) or row[k] is None for row in rows)
    )
    cells = tuple(tuple(cell(value) for value in row) for row in rows)
    return Table(caption, tuple(columns), cells, numeric)


def from_frame(caption: str, table: pd.DataFrame | None, missing: str) -> Listed:
    """A data frame as it is."""
    if table is None or table.empty:
        return missing
    columns = [str(c).replace("_", " ") for c in table.columns]
    return listed(caption, columns, table.to_numpy(dtype=object).tolist(), missing)


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None or value is pd.NA or value is pd.NaT:
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return number(float(value))
    if isinstance(value, list | tuple):
        return ", ".join(cell(v) for v in value)
    return str(value)


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, without a needless exponent."""
    if value is None or not np.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    if size >= 10 ** (digits - 1):
        return f"{value:.0f}" if value == round(value) else f"{value:.1f}"
    places = digits - 1 - int(np.floor(np.log10(size)))
    text = f"{value:.{min(places, 4)}f}"
    return text.rstrip("0").rstrip(".") if value == round(value) else text


def signed(value: float | None) -> str:
    """A difference with its sign, three decimals."""
    if value is None or not np.isfinite(value):
        return NOTHING
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def span(lower: float | None, upper: float | None) -> str:
    """An interval of differences; nothing where there is none."""
    ends = signed(lower), signed(upper)
    return NOTHING if NOTHING in ends else " to ".join(ends)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested parameters as (dotted name, value)."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            rows += flat(value, name)
        elif hasattr(value, "model_dump"):
            rows += flat(value.model_dump(mode="json"), name)
        else:
            rows.append((name, cell(value)))
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
