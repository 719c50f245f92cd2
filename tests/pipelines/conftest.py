"""The real project in a folder of its own, run as a user runs it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

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


def make_workplace(folder: Path) -> Workplace:
    """Copy what makes a Kedro project; the package itself is the installed one."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    (folder / "src").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder / name)
    return Workplace(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A whole tiny run, done once for all tests that look at its results."""
    workplace = make_workplace(tmp_path_factory.mktemp("finished"))
    result = workplace.run("--env", "tiny")
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("cases", "split", "dream_table", "tuning_scores"):
        (table,) = workplace.root.glob(f"data/*/tiny/{name}.csv")
        shutil.copy(table, workplace.root / f"first_{name}.csv")
    return workplace


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """A fresh project without results."""
    return make_workplace(tmp_path)
