"""A disk that fills up stops the run with one line, and nothing half-written stays behind.

The disk is real: a small file system in memory, mounted over one folder for one command alone.
"""

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.pipelines.conftest import Workplace, make_workplace

REQUIRED = "DREAMORPH_REQUIRE_FULL_DISK"
#: Mounts a disk of $1 bytes on $2, fills it with what $2 held, runs the rest, lists what is left.
MOUNTED = """
size=$1; folder=$2; shift 2
before=$(mktemp -d); cp -a "$folder/." "$before"
mount -t tmpfs -o size=$size tmpfs "$folder" && cp -a "$before/." "$folder" || exit 99
"$@"; code=$?
(cd "$folder" && find . -type f) > "$before.left"; cp -a "$folder/." "$before"
umount "$folder"; cp -a "$before/." "$folder"; mv "$before.left" left.txt; rm -r "$before"
exit $code
"""
#: Whoever may not mount becomes root of a name space of their own.
ALONE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh"]


@functools.cache
def cannot_mount() -> str:
    """Why no disk can be mounted here, '' where one can."""
    try:
        command = [*ALONE[:-2], "mount -t tmpfs tmpfs /mnt"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare"
    return "" if done.returncode == 0 else f"mounting is not allowed: {done.stderr.strip()}"


@pytest.fixture(scope="module", autouse=True)
def mountable() -> None:
    """Tests are skipped where no disk can be mounted, unless `REQUIRED` says that one must be."""
    reason = cannot_mount()
    if reason and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED}=1)")
    if reason:
        pytest.skip(reason)


@dataclass(frozen=True)
class Stopped:
    """How a run on a full disk ended: its last line, and the files left on that disk."""

    line: str
    left: list[str]


def run_on_full_disk(workplace: Workplace, folder: str, size: int, pipeline: str) -> Stopped:
    """Run one step whose results go to a disk of `size` bytes; it has to stop with one line."""
    disk = workplace.root / folder
    disk.mkdir(parents=True, exist_ok=True)
    command = workplace.command("--env", "tiny", "--pipelines", pipeline)
    done = subprocess.run(
        [*ALONE, str(size), str(disk), *command],
        cwd=workplace.root,
        env=workplace.environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    left = (workplace.root / "left.txt").read_text().splitlines()
    return Stopped(done.stderr.strip().splitlines()[-1], left)


def states(workplace: Workplace) -> dict[str, str]:
    """State of every tracked run by its error."""
    client = MlflowClient(f"sqlite:///{workplace.root / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("dreamorph")
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("error", ""): run.info.status for run in found}


def after(finished: Workplace, folder: Path, redo: str) -> Workplace:
    """A copy of a finished run that lacks one folder of results."""
    workplace = make_workplace(folder / "run", finished.root / "empty_mlflow.db")
    shutil.copytree(finished.root / "data", workplace.root / "data")
    shutil.rmtree(workplace.root / redo)
    return workplace


def assert_one_line(stopped: Stopped, name: str) -> None:
    assert stopped.line.startswith("Error: no space left to write"), stopped.line
    assert name in stopped.line
    assert "free some space" in stopped.line


def test_records(workplace: Workplace) -> None:
    stopped = run_on_full_disk(workplace, "data/03_primary", 65536, "ingest")
    assert_one_line(stopped, "cohort")
    assert stopped.left == []
    (state,) = states(workplace).items()
    assert state[1] == "FAILED"
    assert "no space left" in state[0]
    assert str(workplace.root) not in state[0]


def test_volumes(finished: Workplace, tmp_path: Path) -> None:
    folder = "data/05_model_input/tiny/dreams"
    workplace = after(finished, tmp_path, folder)
    stopped = run_on_full_disk(workplace, folder, 8192, "dream")
    assert_one_line(stopped, ".nii.gz")
    assert not [name for name in stopped.left if "_image" in name or ".tmp" in name]
    assert set(states(workplace).values()) == {"FAILED"}


def test_checkpoints(finished: Workplace, tmp_path: Path) -> None:
    workplace = after(finished, tmp_path, "data/06_models/tiny/arms")
    stopped = run_on_full_disk(workplace, "data/06_models/tiny/checkpoints", 16384, "train")
    assert_one_line(stopped, ".ckpt")
    assert stopped.left == []
    assert set(states(workplace).values()) == {"FAILED"}


def test_artifacts_of_the_tracking(finished: Workplace, tmp_path: Path) -> None:
    workplace = after(finished, tmp_path, "data/08_reporting/tiny")
    stopped = run_on_full_disk(workplace, "mlruns/artifacts", 8192, "ingest")
    assert_one_line(stopped, "among the artifacts of MLflow")
    assert set(states(workplace).values()) == {"FAILED"}


def test_database_of_the_tracking(workplace: Workplace) -> None:
    assert workplace.run("--env", "tiny", "--pipelines", "ingest").returncode == 0
    database = workplace.root / "mlruns" / "mlflow.db"
    shutil.move(workplace.root / "mlruns" / "artifacts", workplace.root / "artifacts")
    size = -(-database.stat().st_size // 4096) * 4096 + 4096
    stopped = run_on_full_disk(workplace, "mlruns", size, "ingest")
    assert_one_line(stopped, "the MLflow database")
    # Such a run cannot be closed in the database: the next one does it.
    assert workplace.run("--env", "tiny", "--pipelines", "ingest").returncode == 0
    assert "RUNNING" not in states(workplace).values()
