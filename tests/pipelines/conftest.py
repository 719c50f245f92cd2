"""The real project in a folder of its own, run as a user runs it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Workplace:
    """A copy of the project's configuration, in which `kedro run` leaves its results."""

    root: Path

    def command(self, *arguments: str) -> list[str]:
        """The command line of a run."""
        return [sys.executable, "-m", "kedro", "run", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a run."""
        return os.environ | {"OMP_NUM_THREADS": "2"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever the end is."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )

    def arms(self) -> set[str]:
        """Those that parameters ask for by default."""
        return {"none", "classic", "elastic", "learned", "dream"}


def make_workplace(folder: Path, database: Path | None = None) -> Workplace:
    """Copy what makes a Kedro project; the package itself is the installed one.

    database: of MLflow, empty; the first run makes one where it is None, which takes seconds.
    """
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    (folder / "src").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder / name)
    if database is not None:
        (folder / "mlruns").mkdir()
        shutil.copy(database, folder / "mlruns" / "mlflow.db")
    return Workplace(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_tracking_database: Path) -> Workplace:
    """A whole tiny run, done once for all tests, which look at its results and change nothing."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one for all workers
        folder = folder.parent
    root = folder / "finished"
    with FileLock(folder / "finished.lock"):
        if not (root / "done").exists():
            shutil.rmtree(root, ignore_errors=True)
            result = make_workplace(root).run("--env", "tiny")
            assert result.returncode == 0, result.stderr[-3000:]
            shutil.copy(empty_tracking_database, root / "empty_mlflow.db")
            (root / "done").touch()
    return Workplace(root)


@pytest.fixture
def copied(finished: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that run, to go on with."""
    return Workplace(shutil.copytree(finished.root, tmp_path / "copied"))


@pytest.fixture
def workplace(tmp_path: Path, empty_tracking_database: Path) -> Workplace:
    """A fresh project without results."""
    return make_workplace(tmp_path, empty_tracking_database)
