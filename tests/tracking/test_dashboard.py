"""The dashboard: a free port, the right page, a clean end."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from dreamorph.tracking import dashboard
from dreamorph.tracking.dashboard import DashboardError, link, serve


def test_the_link_opens_the_table_of_runs() -> None:
    address = "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning"
    assert link("http://127.0.0.1:5000", "3") == link("http://127.0.0.1:5000/", "3") == address


def test_nothing_tracked_is_one_line(client: MlflowClient, tmp_path: Path) -> None:
    for uri in (f"sqlite:///{tmp_path}/absent.db", f"sqlite:///{tmp_path}/mlflow.db"):
        with pytest.raises(DashboardError, match="nothing is tracked yet"):
            serve(uri, "absent", None, announce=pytest.fail)
    assert not (tmp_path / "absent.db").exists()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DashboardError, match=f"port {port} is taken"):
            dashboard._free_port(port)
    assert dashboard._free_port(None) >= 5000


#: A shell's job in the background ignores interruptions, and hands that on; the server must not.
SERVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from dreamorph.tracking.dashboard import serve
serve(sys.argv[1], "test", None, announce=lambda line: print(line, flush=True))
"""


@pytest.mark.slow
def test_the_server_shows_the_experiment_and_ends_cleanly(
    client: MlflowClient, experiment: str
) -> None:
    command = [sys.executable, "-c", SERVE, client.tracking_uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(
        r"dashboard: (http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs\?workflowType=machine_learning\n",
        line,
    )
    assert match is not None, line
    assert match[2] == experiment
    with urllib.request.urlopen(f"{match[1]}/health", timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):  # no model is asked about patients
        urllib.request.urlopen(f"{match[1]}/ajax-api/3.0/mlflow/assistant/config", timeout=5)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) <= 4
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    assert "dashboard ended" in process.stdout.read()
    process.stdout.close()
