"""Nodes of the ingest step."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dreamorph.datasets.simulated import SimulatedFolder
from dreamorph.errors import CohortError
from dreamorph.fingerprint import fingerprint
from dreamorph.pipelines.common import Items
from dreamorph.simulation import LABEL_NAMES, SimulationConfig, simulate
from dreamorph.simulation.patients import SimulatedCohort
from dreamorph.training.tuning import TuningConfig, check_counted
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.config import CohortConfig, SplitConfig
from dreamorph.volumes.preprocess import preprocess
from dreamorph.volumes.records import CohortFacts, Scan, Validation
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import assign_splits, check_members
from dreamorph.volumes.validation import validate

ORIGIN = "cohort"


def is_simulated(cohort: CohortConfig) -> bool:
    """Whether a run works on simulated patients, which it does unless told of a cohort."""
    return cohort.path is None and cohort.manifest is None


def of_simulated(cohort: CohortConfig, origin: Items) -> bool:
    """Whether a study's results are of simulated patients.

    What ingest noted counts where there is a note: a run of later steps alone may name the study
    and not its cohort.
    """
    known = origin.get(ORIGIN)
    return is_simulated(cohort) if known is None else known == place_of(CohortConfig())


def simulate_patients(
    cohort: CohortConfig, simulation: SimulationConfig, folder: SimulatedFolder
) -> Iterator[SimulatedCohort]:
    """Simulate the default cohort where no other is named and the folder does not hold it yet."""
    if is_simulated(cohort) and not folder.holds(simulation):
        yield simulate(simulation)


def scan_files(
    cohort: CohortConfig, folder: SimulatedFolder, origin: Items
) -> tuple[Scan, pd.DataFrame]:
    """List the files of the cohort; which name stands for which file stays on this machine.

    Raises CohortError where the study holds results of another cohort, which would be overwritten.
    """
    if not is_simulated(cohort):
        found = scan(cohort)
        check_origin(cohort, origin)
        return found, found.keys
    check_origin(cohort, origin)
    found = scan(cohort.model_copy(update={"path": folder.manifest}))
    facts = found.facts.model_copy(update={"label_names": LABEL_NAMES})
    return replace(found, facts=facts), found.keys


def check_origin(cohort: CohortConfig, origin: Items) -> None:
    """Two folders of one name are not one study. Raises CohortError; see `note_origin`."""
    known = origin.get(ORIGIN)
    if known is not None and known != place_of(cohort):
        raise CohortError(
            "the study's results are of a cohort in another place: give study=NAME to keep both;"
            " where the cohort was only moved, remove data/02_intermediate/<study>/origin"
        )


def place_of(cohort: CohortConfig) -> str:
    """A hash of where a cohort lies, which names nobody."""
    if is_simulated(cohort):
        return fingerprint("simulated")
    return fingerprint(str(Path(cohort.manifest or cohort.path or "").expanduser().resolve()))


def note_origin(cohort: CohortConfig, summary: dict[str, Any]) -> dict[str, str]:
    """Which cohort the study's results are of, once it was read to the end."""
    return {ORIGIN: place_of(cohort)}


def validate_cases(files: Scan, cohort: CohortConfig) -> tuple[Validation, pd.DataFrame]:
    """Look into every file once and set aside what cannot be used."""
    validation = validate(files, cohort)
    return validation, validation.quarantine


def split_cases(
    validation: Validation, split: SplitConfig, tuning: TuningConfig
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Decide by subject who trains, who stays unlabelled and who tests.

    Raises CohortError for a label that tuning names and the cohort lacks, before long work begins.
    """
    check_counted(tuning, list(validation.facts.label_names.values()))
    table = assign_splits(validation.good, split, validation.quarantine)
    check_members(table)
    public = table[["case", "subject", "class", "split", "labelled"]]
    return table, public, validation.facts.model_dump(mode="json")


def preprocess_cases(
    case_table: pd.DataFrame, facts: dict[str, Any], cohort: CohortConfig
) -> tuple[Cohort, dict[str, Any]]:
    """Bring all volumes to one orientation, spacing, intensity scale and grid."""
    volumes = preprocess(case_table, CohortFacts.model_validate(facts), cohort)
    summary = {
        "fingerprint": volumes.fingerprint(),
        "cases": len(volumes),
        "grid": list(volumes.shape),
        "spacing_mm": list(volumes.spacing_mm),
        "modality": volumes.modality,
        "labels": {str(k): name for k, name in volumes.label_names.items()},
        "classes": volumes.class_names,
    }
    return volumes, summary
