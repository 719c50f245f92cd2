"""The folder of simulated patients that the default run reads like any other cohort."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from dreamorph.simulation.config import SimulationConfig
from dreamorph.simulation.folder import MANIFEST_FILE, TRUTH_FILE, is_written, write_cohort
from dreamorph.simulation.patients import SimulatedCohort


class SimulatedFolder:
    """What is known of the folder without reading a volume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> Path:
        """The manifest to read the cohort by."""
        return self.path / MANIFEST_FILE

    @property
    def truth(self) -> Path:
        """The maps and the prior behind the volumes, for judging their recovery only."""
        return self.path / TRUTH_FILE

    def holds(self, config: SimulationConfig) -> bool:
        """Whether the folder holds the cohort of this configuration, whole."""
        return is_written(config, self.path)


class SimulatedCohortDataset(AbstractDataset[SimulatedCohort, SimulatedFolder]):
    """Saves simulated patients as a folder of NIfTI; loads as the folder's address."""

    def __init__(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.metadata = metadata

    def save(self, data: SimulatedCohort) -> None:
        """Write the folder, all or nothing."""
        write_cohort(data, self.path)

    def load(self) -> SimulatedFolder:
        """The folder, whether it exists or not."""
        return SimulatedFolder(self.path)

    def _exists(self) -> bool:
        return self.path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.path)}
