"""A simulated cohort as a folder that the pipeline reads like any other."""

import csv
import json
import logging
import os
import secrets
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil

from dreamorph.errors import CohortError
from dreamorph.fingerprint import fingerprint
from dreamorph.simulation.anatomy import LABEL_NAMES
from dreamorph.simulation.config import SimulationConfig
from dreamorph.simulation.patients import SimulatedCohort, SimulatedVolume

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.csv"
TRUTH_FILE = "truth.npz"
MARK_FILE = "simulation.json"
_COLUMNS = ("case", "subject", "image", "label", "class", "split")
#: Raise it when the same configuration gives other volumes than before.
_VERSION = 2


def simulation_fingerprint(config: SimulationConfig) -> str:
    """What tells folders of different simulations apart."""
    return fingerprint("simulation", _VERSION, config)


def is_written(config: SimulationConfig, folder: Path) -> bool:
    """Whether a folder holds the cohort of this configuration, whole."""
    try:
        mark = json.loads((folder / MARK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(mark, dict) and mark.get("fingerprint") == simulation_fingerprint(config)


def write_cohort(simulated: SimulatedCohort, folder: Path) -> Path:
    """Write NIfTI volumes, `manifest.csv` and the truth, all or nothing.

    The truth lies in `truth.npz`, which only a judge of the recovery may open. The same cohort
    gives the same bytes. An earlier simulation in the folder is replaced.

    Returns:
        The manifest's path.

    Raises:
        CohortError: the folder holds something else than a simulation, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MARK_FILE).is_file() and any(folder.iterdir()):
        raise CohortError(
            f"{folder} holds files that are no simulation: name an empty or a new folder"
        )
    temporary = folder.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{folder.name}")
    try:
        _sweep(folder)
        temporary.mkdir(parents=True)
        _write(simulated, temporary)
        _replace(temporary, folder)
    except OSError as error:
        raise CohortError(f"the simulation cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info("wrote %d simulated volumes to %s", len(simulated.volumes), folder)
    return folder / MANIFEST_FILE


def _write(simulated: SimulatedCohort, folder: Path) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir()
    rows = [_write_volume(volume, folder) for volume in simulated.volumes]
    with (folder / MANIFEST_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    simulated.truth.save(folder / TRUTH_FILE)
    mark = {
        "note": "simulated patients: MNI152 average brain, warped and scanned in software",
        "fingerprint": simulation_fingerprint(simulated.config),
        "label_names": LABEL_NAMES,
        "config": simulated.config.model_dump(mode="json"),
    }
    (folder / MARK_FILE).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")


def _write_volume(volume: SimulatedVolume, folder: Path) -> dict[str, str]:
    image, label = f"images/{volume.case}.nii.gz", ""
    _write_nifti(volume.image, volume.affine, folder / image)
    if volume.split != "unlabelled":
        label = f"labels/{volume.case}.nii.gz"
        _write_nifti(volume.label, volume.affine, folder / label)
    return {
        "case": volume.case,
        "subject": volume.subject,
        "image": image,
        "label": label,
        "class": volume.cls,
        "split": volume.split,
    }


def _write_nifti(voxels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"] = b"simulated"
    image.header.set_xyzt_units("mm", "sec")
    # the affine is that of an aligned head in MNI space, but the head is not aligned
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    nib.save(image, path)


def _sweep(folder: Path) -> None:
    """Remove what a writer of the same folder left when it was killed."""
    for left in folder.parent.glob(f".tmp-*-{folder.name}*"):
        pid = left.name.split("-")[1]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _replace(temporary: Path, folder: Path) -> None:
    """Swap the folder in; between the two renames it is absent, never half there."""
    old = temporary.with_name(f"{temporary.name}-old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
