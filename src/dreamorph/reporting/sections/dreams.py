"""Patients beside dreams of them."""

from typing import Any

from dreamorph.reporting.figures import dreams as figures
from dreamorph.reporting.figures.planes import CONVENTION
from dreamorph.reporting.inputs import ReportInputs, has_outlines
from dreamorph.reporting.parts import Listed, listed, picture


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Slices, label volumes and what was rejected."""
    outlines = ""
    if has_outlines(inputs):
        outlines = (
            " Coloured outlines are the label that belongs to the image, the white dotted one is"
            " that of the source: between them lies what was dreamed."
        )
    return {
        "convention": CONVENTION,
        "kind": inputs.kind,
        "labels": inputs.cohort.n_labels > 0,
        "gallery": picture(
            figures.gallery(inputs),
            "dreams_gallery",
            f"Rows of slices: a {inputs.kind} volume and dreams made of it",
            f"Each row is one {inputs.kind} volume and dreams made of it, in the same slice and"
            f" with the same grey levels.{outlines} Black is where the source was not scanned.",
        ),
        "planes": picture(
            figures.three_planes(inputs),
            "dreams_planes",
            f"A {inputs.kind} volume and a dream of it in axial, coronal and sagittal slices, and"
            " the distance that each point moved",
            f"One {inputs.kind} volume, one dream of it, and how far each point of the dream was"
            " moved (size included).",
        ),
        "volumes": picture(
            figures.label_volumes(inputs),
            "label_volumes",
            f"Volume of each label in {inputs.kind} and in dreamed volumes",
            "Label volumes: every volume is a point, the bar is the median, the thin line spans"
            f" the 5th to 95th percentile. Dreams should spread about as the {inputs.kind} ones, of"
            " which there are few.",
            kind="svg",
        ),
        "counts": _counts(inputs),
        "shown_dreams": 0 if inputs.dreams is None else len(inputs.dreams),
    }


def _counts(inputs: ReportInputs) -> Listed:
    table = inputs.dream_table
    if table.empty or "accepted" not in table:
        return "No dream was made, so none was accepted or rejected."
    accepted = table["accepted"].astype(bool)
    rows: list[list[Any]] = [["accepted", "", int(accepted.sum()), _percent(accepted.mean())]]
    if "reason" in table:
        reasons = table.loc[~accepted, "reason"].fillna("").replace("", "no reason given")
        for reason, count in reasons.value_counts().items():
            rows.append(["rejected", str(reason), int(count), _percent(count / len(table))])
    return listed(
        f"What became of the {len(table)} dreams that were made; rejected ones train nothing.",
        ("outcome", "reason", "dreams", "share"),
        rows,
        "No dream was made.",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
