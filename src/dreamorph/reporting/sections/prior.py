"""What the prior learned."""

import re
from typing import Any

from dreamorph.prior import DeformationPrior
from dreamorph.reporting.figures import prior as figures
from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.parts import Listed, Shown, listed, number, picture
from dreamorph.reporting.wording import DIAGNOSTIC_MEANINGS, compactness

_CLASSES = 4
_NAMED = 12


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Modes, draws, the spectrum and the diagnostics."""
    prior = inputs.prior
    classes = [None] if prior is None else prior.class_names[:_CLASSES]
    return {
        "modes": [_modes(inputs, cls, place) for place, cls in enumerate(classes, start=1)],
        "draws": picture(
            figures.draws(inputs),
            "prior_draws",
            "The mean anatomy and random draws from the prior, with label outlines",
            "The mean anatomy and subjects drawn around it, smooth residual included: what a dream"
            " is warped towards. All show the same mean image, so that only shape differs.",
        ),
        "spectrum": picture(
            figures.spectrum(inputs),
            "prior_spectrum",
            "Cumulative share of the variance over the modes of the prior",
            "How much of the modelled variance the first modes carry. What the curve does not"
            " reach is smooth random deformation.",
            kind="svg",
        ),
        "diagnostics": _diagnostics(inputs),
        "left_out": _left_out(inputs),
        "members": 0 if prior is None else len(prior.members),
        "subjects": 0 if prior is None else len(set(prior.subjects)),
        "share": None if prior is None else prior.diagnostics.get("shrinkage"),
        "fingerprint": "" if prior is None else prior.fingerprint,
        "wavelength": "" if prior is None else number(_finest_wavelength_mm(prior)),
    }


def _modes(inputs: ReportInputs, cls: str | None, place: int) -> Shown:
    of_class = "" if cls is None else f" of class {cls}"
    safe = "" if cls is None else f"_{place}_" + re.sub("[^A-Za-z0-9_-]", "_", cls)
    return picture(
        figures.modes(inputs, cls),
        f"prior_modes{safe}",
        f"First modes{of_class}: mean anatomy at minus two, zero and plus two standard deviations",
        f"First modes{of_class}, strongest on top: the mean of all registered volumes, moved two"
        " standard deviations to either side. The white dotted outline is that of the mean. On the"
        " right, where the lines of a regular grid go; lines that never cross mean that nothing"
        " folds. The mean looks blurred because it is an average; dreams are not.",
    )


def _diagnostics(inputs: ReportInputs) -> Listed:
    if inputs.prior is None:
        return "No prior was learned."
    rows = []
    for name, value in inputs.prior.diagnostics.items():
        title, meaning = compactness(name) or DIAGNOSTIC_MEANINGS.get(name, (name, ""))
        rows.append([title, value, meaning])
    return listed(
        "What the prior is worth.",
        ("quantity", "value", "how to read it"),
        rows,
        "The prior has no diagnostics.",
    )


def _left_out(inputs: ReportInputs) -> str:
    """Which volumes for learning the prior does not know, and what follows from it."""
    if inputs.prior is None:
        return ""
    table = inputs.cohort.table
    learning = table[table["split"].isin(["train", "unlabelled"])]
    lost = learning[~learning["case"].isin(inputs.prior.members)]
    if lost.empty:
        return ""
    names = [str(case) for case in lost["case"]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    labelled = int((lost["split"] == "train").sum())
    return (
        f"{len(lost)} of {len(learning)} volumes are left out of the prior, since only pairs that"
        f" were set aside join them to the rest: {', '.join(names[:_NAMED])}{more}. They taught"
        " nothing about how the anatomy varies and cannot be sources of dreams (labelled among"
        f" them: {labelled}); networks are shown the labelled ones undreamed only."
    )


def _finest_wavelength_mm(prior: DeformationPrior) -> float:
    """Shortest wavelength among the cosines that the prior keeps along any axis."""
    return min(
        2 * edge / max(1, kept - 1)
        for edge, kept in zip(prior.extent_mm, prior.basis.kept, strict=True)
    )
