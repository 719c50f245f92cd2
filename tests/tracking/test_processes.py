"""Runs of dead processes are closed, and no others."""

import os
import subprocess
from pathlib import Path

import psutil
from mlflow.tracking import MlflowClient

from dreamorph.tracking.processes import HOST, PID, STARTED, git_commit, process_tags, reap

DEAD_PID = str(2**22 + 1)


def test_only_runs_of_dead_processes_here_are_killed(client: MlflowClient, experiment: str) -> None:
    mine = process_tags()
    expected = {
        "mine": (mine, "RUNNING"),
        "dead": (mine | {PID: DEAD_PID}, "KILLED"),
        "number used again": (mine | {STARTED: "1.0"}, "KILLED"),
        "another machine": (mine | {HOST: "0" * 8, PID: DEAD_PID}, "RUNNING"),
        "not of dreamorph": ({}, "RUNNING"),
        "broken tags": ({HOST: mine[HOST]}, "KILLED"),
    }
    ids = {
        name: client.create_run(experiment, tags=tags).info.run_id
        for name, (tags, _) in expected.items()
    }
    closed = client.create_run(experiment, tags=mine | {PID: DEAD_PID}).info.run_id
    client.set_terminated(closed)
    killed = reap(client, experiment)
    assert {name: client.get_run(i).info.status for name, i in ids.items()} == {
        name: status for name, (_, status) in expected.items()
    }
    assert set(killed) == {
        ids[name] for name, (_, status) in expected.items() if status == "KILLED"
    }
    assert "without closing" in client.get_run(ids["dead"]).data.tags["error"]
    assert client.get_run(closed).info.status == "FINISHED"
    assert reap(client, experiment) == []


def test_tags_name_no_machine() -> None:
    tags = process_tags()
    assert tags[PID] == str(os.getpid())
    assert float(tags[STARTED]) == round(psutil.Process().create_time(), 3)
    assert os.uname().nodename not in tags.values()


def test_git_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "absent") == "unknown"
    assert git_commit(tmp_path) == "unknown"

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "first")
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-modified"
