"""Runs whose process is gone: MLflow would show them as running for ever."""

import os
import subprocess
from pathlib import Path

import psutil
from mlflow.entities import Run, RunStatus
from mlflow.tracking import MlflowClient

from dreamorph.datasets.atomic import host_id

HOST, PID, STARTED = "process.host", "process.pid", "process.started"
_SAME_START_SECONDS = 2.0


def process_tags() -> dict[str, str]:
    """Tags that tell, later and on the same machine, whether this process still lives."""
    started = psutil.Process().create_time()
    return {HOST: host_id(), PID: str(os.getpid()), STARTED: f"{started:.3f}"}


def reap(client: MlflowClient, experiment_id: str) -> list[str]:
    """Mark as KILLED this machine's running runs whose process is gone; return their ids."""
    running = client.search_runs(
        [experiment_id],
        filter_string=f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{host_id()}'",
        max_results=1000,
    )
    stale = [run.info.run_id for run in running if not _alive(run)]
    for run_id in stale:
        client.set_tag(run_id, "error", "the process ended without closing its run")
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))
    return stale


def _alive(run: Run) -> bool:
    try:
        process = psutil.Process(int(run.data.tags[PID]))
        # Numbers of processes are used again, after a reboot for certain.
        return abs(process.create_time() - float(run.data.tags[STARTED])) < _SAME_START_SECONDS
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False


def git_commit(project: Path) -> str:
    """The commit of the project, marked where files differ from it; 'unknown' without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=project, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}-modified" if git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
