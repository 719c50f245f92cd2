"""What the report cannot say, and how it was made."""

import platform
import sys
from importlib import metadata
from typing import Any

from dreamorph.reporting.inputs import ReportInputs, Task
from dreamorph.reporting.parts import Listed, flat, listed
from dreamorph.reporting.wording import LIMITS, NOTHING

_PACKAGES = ("torch", "monai", "lightning", "numpy", "scipy", "scikit-learn", "nibabel", "kedro",
             "mlflow")  # fmt: skip


def build_limits(inputs: ReportInputs) -> dict[str, Any]:
    """Limits that hold for every run, and those of this one."""
    table = inputs.cohort.table
    train = table.loc[table["split"] == "train", "subject"].nunique()
    test = table.loc[table["split"] == "test", "subject"].nunique()
    numbers = (
        f"{train} labelled training subjects and {test} test subjects were used. Results from so"
        " few, most likely of one site and one protocol, need not hold for other patients,"
        " scanners or label styles."
    )
    limits = [("Numbers", numbers), *LIMITS]
    if inputs.simulated:
        text = (
            "These patients are simulated. What helps with them may fail with real ones; no number"
            " here speaks of real patients."
        )
        limits.insert(0, ("Simulation", text))
    if (steps := inputs.parameters.get("training", {}).get("steps")) is not None:
        place = [title for title, _ in limits].index("Numbers") + 1
        limits.insert(place, ("Length of training", _length_of_training(steps, inputs.task)))
    return {"limits": limits}


def _length_of_training(steps: int, task: Task) -> str:
    text = f"Every network was trained for {steps:,} steps."
    if task == "segmentation":
        text += (
            " More may still gain: on three volumes of the public hippocampus set 2,100 steps came"
            " farther than 700 by .012 Dice with random warps and by .005 with dreams, as much as"
            " any way of warping leads another by there."
        )
    return f"{text} Another length (training.steps) may order the arms otherwise."


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Versions and parameters."""
    return {
        "versions": _versions(inputs),
        "earlier": ", ".join(inputs.earlier),
        "parameters": listed(
            "All parameters of the run.",
            ("parameter", "value"),
            flat(inputs.parameters),
            "The parameters were not handed to the report.",
        ),
    }


def _versions(inputs: ReportInputs) -> Listed:
    rows = [
        ["dreamorph", inputs.version],
        ["git commit", inputs.git_commit or "not known"],
        ["made", inputs.created],
        ["data", inputs.cohort.fingerprint()],
        ["prior", NOTHING if inputs.prior is None else inputs.prior.fingerprint],
        ["Python", f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"],
        ["system", platform.system()],
    ]
    for package in _PACKAGES:
        try:
            rows.append([package, metadata.version(package)])
        except metadata.PackageNotFoundError:
            continue
    return listed("Versions and fingerprints.", ("what", "which"), rows, "")
