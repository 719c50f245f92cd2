"""The MLflow server, started the light way, with a link to the right page."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from mlflow.tracking import MlflowClient

from dreamorph.errors import DreamorphError
from dreamorph.tracking.server import asking, is_server, shown

_HOST = "127.0.0.1"
_FIRST_PORT = 5000
_START_SECONDS = 90.0
_STOP_SECONDS = 10.0


class DashboardError(DreamorphError):
    """The dashboard cannot be shown."""


def serve(uri: str, experiment: str, port: int | None, announce: Callable[[str], None]) -> None:
    """Serve the tracked runs on this machine until Ctrl-C or SIGTERM.

    Of a server of the site, only the address is told. Raises DashboardError where nothing is
    tracked yet, the port is taken or the server fails, DreamorphError where the site's fails.
    """
    with asking(uri):
        experiment_id = _experiment_id(uri, experiment)
    if is_server(uri):
        announce(link(shown(uri), experiment_id))
        return
    port = _free_port(port)
    server = _start(uri, port)
    try:
        _wait_until_ready(server, port)
        announce(f"dashboard: {link(f'http://{_HOST}:{port}', experiment_id)}")
        announce("Ctrl-C ends it")
        server.wait()
    except KeyboardInterrupt:
        announce("dashboard ended")
    finally:
        _stop(server)


def link(server: str, experiment_id: str) -> str:
    """The address of an experiment's table of runs, past the parts of MLflow for chats."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def _experiment_id(uri: str, experiment: str) -> str:
    file = Path(uri.removeprefix("sqlite:///"))
    found = None
    if not uri.startswith("sqlite:") or file.is_file():
        found = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
    if found is None:
        raise DashboardError("nothing is tracked yet: run `make run` (or `kedro run`) first")
    return str(found.experiment_id)


def _free_port(wanted: int | None) -> int:
    for port in [wanted] if wanted else range(_FIRST_PORT, _FIRST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise DashboardError(f"port {wanted or _FIRST_PORT} is taken: give another one, e.g. PORT=8080")


def _start(uri: str, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port)]
    # One worker and no job runner: two processes instead of twelve. Under gunicorn MLflow has no
    # assistant: elsewhere that answers by any model that is set up here, also one far away.
    command += ["--workers", "1", "--gunicorn-opts", "--threads 8", "--backend-store-uri", uri]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = subprocess.DEVNULL
    # A session of its own: Ctrl-C reaches this process only, which then ends the whole group.
    return subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise DashboardError(
        f"the MLflow server did not start on port {port}: `mlflow server --port {port}` says why"
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
