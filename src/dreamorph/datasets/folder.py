"""The address of a folder, for work that keeps files of its own while it runs."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset


class FolderDataset(AbstractDataset[None, Path]):
    """Loads as a path; whoever works there makes and clears the folder."""

    def __init__(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.metadata = metadata

    def load(self) -> Path:
        """The folder, whether it exists or not."""
        return self.path

    def save(self, data: None) -> None:
        """Not meant to be saved."""
        raise NotImplementedError("a folder is worked in, not saved")

    def _exists(self) -> bool:
        return self.path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.path)}
