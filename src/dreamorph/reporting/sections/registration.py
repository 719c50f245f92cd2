"""Registration before and after."""

from typing import Any

import pandas as pd

from dreamorph.reporting.figures import registration as figures
from dreamorph.reporting.figures.planes import CONVENTION
from dreamorph.reporting.inputs import ReportInputs, has_outlines
from dreamorph.reporting.parts import Listed, Shown, from_frame, listed, number, picture
from dreamorph.reporting.wording import MINUS, TIMES

_EXAMPLES = 2
_MOST_SVG_POINTS = 250
_MOST_FAILED = 40
#: Errors below this are not told apart.
_FINEST_MM = 0.001
_NUMBER = r"[-+]?\d+(?:\.\d+)?"


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Example pairs, the quality of all pairs, and those set aside."""
    rise = "Local correlation"
    if inputs.pairs.filter(like="dice").notna().to_numpy().any():
        rise += " and Dice"
    return {
        "examples": [_example(inputs, k) for k in range(max(1, _count(inputs)))],
        "convention": CONVENTION,
        "quality": picture(
            figures.quality(inputs),
            "registration_quality",
            "Strips of similarity, Dice, inverse error and volume change of every registered pair",
            "Every registered pair is a point; lines join the same pair, bars are medians."
            f" {rise} should rise. The inverse error says how far a point is from itself"
            " after the map and back; the logarithm of the volume change is 0.69 where"
            f" tissue doubles and {MINUS}0.69 where it halves.",
            kind="svg" if len(inputs.pairs) <= _MOST_SVG_POINTS else "webp",
        ),
        "summary": _summary(inputs.pairs),
        "failed": _failed(inputs.pairs),
    }


def _count(inputs: ReportInputs) -> int:
    return min(_EXAMPLES, len(inputs.pair_examples))


def _example(inputs: ReportInputs, index: int) -> Shown:
    figure = figures.pair(inputs, index)
    if isinstance(figure, str):
        return figure
    fixed, moving = figures.pair_names(inputs, index)
    where = (
        ""
        if inputs.common is None
        else " The fixed volume is shown in the common space, into which the affine step leads."
    )
    outlined, outlines = "", ""
    if has_outlines(inputs):
        outlined = ", with label outlines"
        outlines = (
            " Coloured outlines are the volume's own labels, the white dotted one is that of the"
            " fixed volume: after the warp they should coincide."
        )
    return picture(
        figure,
        f"registration_pair_{index + 1}",
        f"Slices of {fixed} and of {moving} before and after registration{outlined}",
        f"{moving} (moving) brought onto {fixed} (fixed).{outlines} Tiles alternate between"
        f" fixed and warped: edges should run on.{where}",
    )


def _summary(pairs: pd.DataFrame) -> Listed:
    if pairs.empty:
        return "No pair was registered."
    rows = []
    for kind, own in pairs.groupby("kind", sort=True):
        rows.append(
            [
                kind,
                len(own),
                _change(own, "similarity"),
                _change(own, "dice"),
                int((own["folded_voxels"] > 0).sum()),
                _millimetres(float(own["inverse_error_mm"].median())),
                int((own["set_aside"].fillna("") != "").sum()),
            ]
        )
    return listed(
        "All pairs by kind; medians.",
        ("pairs", "number", "correlation", "Dice", "with folds", "inverse error mm", "set aside"),
        rows,
        "No pair was registered.",
    )


def _millimetres(value: float) -> str:
    return f"< {_FINEST_MM:g}" if value < _FINEST_MM else number(value)


def _change(pairs: pd.DataFrame, name: str) -> str:
    columns = [f"{name}_{stage}" for stage in ("before", "affine", "after")]
    values = [float(pairs[c].median()) for c in columns if c in pairs and pairs[c].notna().any()]
    return " → ".join(number(v) for v in values) or "not labelled"


def _failed(pairs: pd.DataFrame) -> Listed:
    missing = "No pair was set aside."
    if pairs.empty or "set_aside" not in pairs:
        return missing
    own = pairs[pairs["set_aside"].fillna("") != ""]
    names = [c for c in ("fixed_case", "moving_case") if c in own] or ["fixed", "moving"]
    table = own[[*names, "kind", "set_aside"]].rename(columns={"set_aside": "reason"})
    more = f" The first {_MOST_FAILED} of them." if len(own) > _MOST_FAILED else ""
    caption = (
        f"{len(own)} of {len(pairs)} pairs were set aside ({_reasons(own)});"
        f" the prior does not see them.{more}"
    )
    return from_frame(caption, table.head(_MOST_FAILED), missing)


def _reasons(failed: pd.DataFrame) -> str:
    """How often each kind of reason was given: reasons that differ in numbers alone are one."""
    kinds = failed["set_aside"].astype(str).str.replace(_NUMBER, "…", regex=True)
    return ", ".join(f"{count} {TIMES} {kind}" for kind, count in kinds.value_counts().items())
