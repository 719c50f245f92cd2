"""How well the known truth of simulated patients was recovered."""

from typing import Any

import numpy as np

from dreamorph.reporting.figures import recovery as figures
from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.parts import Listed, listed, picture

_MEANINGS = {
    "n_modes": "How many learned modes were compared with the true ones.",
    "explained": "Share of the true variation between subjects that lies within the learned modes.",
    "explained_at_best": "The same for the best possible modes, those of the true deformations.",
    "explained_by_chance": "The same for modes as smooth and as many, but in the wrong place.",
    "subspace_overlap": "Mean squared cosine between the true directions and the learned modes.",
    "field_correlation": "Correlation of learned and true deformations, subject by subject.",
    "sd_ratio": "Spread of the learned deformations over that of the true ones; 1 is right.",
    "enlargement_correlation": "Correlation of the learned with the true enlargement of the"
    " structure that tells the classes apart.",
    "enlargement_sd_ratio": "Spread of that learned enlargement over the true one; 1 is right.",
}


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Registration error and recovered modes."""
    return {
        "simulated": inputs.simulated,
        "error": picture(
            figures.registration_error(inputs),
            "registration_error",
            "Distance of registered points from the truth before and after registration",
            "Distance between where registration puts a point and where the simulation moved it;"
            " every pair is a point, bars are medians. Where the image is flat, nothing tells"
            " registration where a point went, so some error must remain.",
            kind="svg",
        ),
        "sentence": _sentence(inputs),
        "modes": _modes(inputs),
    }


def _sentence(inputs: ReportInputs) -> str:
    values = figures.part(inputs, "registration")
    if "before_mean_mm" not in values or "after_mean_mm" not in values:
        return ""
    before, after = (
        float(np.median(np.asarray(values[f"{stage}_mean_mm"], dtype=float)))
        for stage in ("before", "after")
    )
    return (
        f"Registration brought the median error from {before:.2f} mm to {after:.2f} mm"
        f" ({100 * (1 - after / before):.0f} % less)."
        if before > after
        else f"Registration did not bring the points nearer to the truth: the median error was"
        f" {before:.2f} mm before and {after:.2f} mm after."
    )


def _modes(inputs: ReportInputs) -> Listed:
    values = figures.part(inputs, "modes")
    rows = [
        [name.replace("_", " "), value, _MEANINGS.get(name, "")] for name, value in values.items()
    ]
    return listed(
        "The prior's modes against the true ones.",
        ("quantity", "value", "how to read it"),
        rows,
        "The recovery of the true modes was not measured.",
    )
