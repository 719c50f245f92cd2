"""What went in and what was set aside."""

from typing import Any

import numpy as np

from dreamorph.reporting.figures.dreams import volumes_ml
from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.parts import Listed, listed, number
from dreamorph.reporting.wording import TIMES
from dreamorph.spatial import extent

_SPLITS = {
    "train": "train: labels and images teach registration, prior and networks",
    "unlabelled": "unlabelled: images alone teach how the anatomy varies",
    "test": "test: held out from everything, used once for the scores",
}
_MODALITIES = {
    "MR": "MR, each volume normalised by itself",
    "CT": "CT, Hounsfield window brought to 0 to 1",
    "shape": "binary shapes",
}


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Tables of splits, labels, cases and quarantine, and facts about the grid."""
    cohort = inputs.cohort
    return {
        "splits": _splits(inputs),
        "labels": _labels(inputs),
        "set_aside": _set_aside(inputs),
        "every_case": listed(
            "Every case that takes part.",
            ("case", "subject", "class", "split"),
            cohort.table[["case", "subject", "class", "split"]].to_numpy(dtype=object).tolist(),
            "No case takes part.",
        ),
        "grid": f" {TIMES} ".join(str(n) for n in cohort.shape),
        "spacing": f" {TIMES} ".join(number(s) for s in cohort.spacing_mm),
        "extent": f" {TIMES} ".join(number(e) for e in extent(cohort.shape, cohort.spacing_mm)),
        "modality": _MODALITIES.get(cohort.modality, cohort.modality),
        "n_cases": len(cohort),
        "n_subjects": cohort.table["subject"].nunique(),
        "alone": cohort.table["subject"].is_unique and not inputs.simulated,
    }


def _splits(inputs: ReportInputs) -> Listed:
    classes = inputs.cohort.class_names
    rows = []
    for split, own in inputs.cohort.table.groupby("split", sort=False):
        counts = [int((own["class"] == cls).sum()) for cls in classes]
        name = _SPLITS.get(str(split), str(split))
        rows.append([name, len(own), own["subject"].nunique(), int(own["labelled"].sum()), *counts])
    columns = ("split", "volumes", "subjects", "labelled", *(f"class {cls}" for cls in classes))
    return listed("Volumes by split.", columns, rows, "The cohort is empty.")


def _labels(inputs: ReportInputs) -> Listed:
    cohort = inputs.cohort
    rows = []
    for label, name in cohort.label_names.items():
        volumes = volumes_ml(cohort.labels, label, cohort.spacing_mm)
        holds = volumes > 0
        own = volumes[holds]
        parts = [int(holds[cohort.indices(split)].sum()) for split in ("train", "test")]
        median, low, high = (
            (float(np.median(own)), float(own.min()), float(own.max()))
            if len(own)
            else (float("nan"),) * 3
        )
        rows.append([label, name, *parts, median, low, high])
    return listed(
        "Labels, how many volumes contain each, and their size there on the common grid. What no"
        " training volume contains cannot be learned.",
        ("label", "name", "in training", "in test", "median mL", "smallest mL", "largest mL"),
        rows,
        "The cohort has no label maps: the task is to tell classes apart.",
    )


def _set_aside(inputs: ReportInputs) -> Listed:
    known = [c for c in ("case", "status", "reason", "detail") if c in inputs.quarantine]
    rows = inputs.quarantine[known].to_numpy(dtype=object).tolist() if known else []
    return listed(
        "Cases set aside, or used otherwise than expected.",
        known,
        rows,
        "Nothing was set aside: every case that was found takes part.",
    )
