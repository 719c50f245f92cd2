"""Single results: any Kedro dataset made atomic, and objects that save themselves."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro.utils import load_obj

from dreamorph.datasets.atomic import MissingDataError, atomic_path, sweep

PRIOR = "dreamorph.prior.DeformationPrior"


class AtomicFile(AbstractDataset[Any, Any]):
    """Any file dataset (CSV, JSON, text, figure, ...), its file written whole or not at all.

    `dataset` is the wrapped dataset's name or its definition without `filepath`.
    """

    def __init__(
        self,
        filepath: str,
        dataset: str | dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(filepath)
        self.metadata = metadata
        self._definition = {"type": dataset} if isinstance(dataset, str) else dict(dataset)

    def save(self, data: Any) -> None:
        """Save beside the target, then rename."""
        sweep(self.path.parent)
        with atomic_path(self.path) as temporary:
            self._inner(temporary).save(data)

    def load(self) -> Any:
        """Load by the wrapped dataset. Raises MissingDataError where there is no file."""
        check_exists(self.path)
        return self._inner(self.path).load()

    def _inner(self, path: Path) -> AbstractDataset:
        # from_config empties the definition it is given.
        definition = deepcopy(self._definition) | {"filepath": str(path)}
        return AbstractDataset.from_config(path.name, definition)

    def _exists(self) -> bool:
        return self.path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path), "dataset": self._definition["type"]}


class ObjectDataset(AbstractDataset[Any, Any]):
    """An object of a class with `save(path)` and the class method `load(path)`.

    The object may write a file or a folder; either way it appears in one step.
    """

    def __init__(self, filepath: str, cls: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(filepath)
        self.cls = cls
        self.metadata = metadata

    def save(self, data: Any) -> None:
        """Let the object write itself beside the target, then rename."""
        sweep(self.path.parent)
        with atomic_path(self.path) as temporary:
            data.save(temporary)

    def load(self) -> Any:
        """Load by the class. Raises MissingDataError where nothing was saved."""
        check_exists(self.path)
        return load_obj(self.cls).load(self.path)

    def _exists(self) -> bool:
        return self.path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path), "cls": self.cls}


class PriorDataset(ObjectDataset):
    """A learned deformation prior, kept in memory while a run needs it.

    To read one means to fit it again.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath, PRIOR, metadata)
        self._kept: tuple[Any, tuple[int, int]] | None = None

    def save(self, data: Any) -> None:
        """See the base class."""
        super().save(data)
        self._kept = data, self._state()

    def load(self) -> Any:
        """See the base class; what is kept counts while the file is the same."""
        check_exists(self.path)
        if self._kept is None or self._kept[1] != self._state():
            self._kept = super().load(), self._state()
        return self._kept[0]

    def _state(self) -> tuple[int, int]:
        known = self.path.stat()
        return known.st_mtime_ns, known.st_size

    def _release(self) -> None:
        self._kept = None


def check_exists(path: Path) -> None:
    """Raise MissingDataError, naming the way out, where a result is absent."""
    if not path.exists():
        raise MissingDataError(
            f"{path} does not exist yet: is `study` what that run is called? If so, run the steps"
            " that make it first, or all of them with `kedro run` and the same parameters"
        )
