"""A site's MLflow server that is not there, or refuses, is told in one line and at once."""

import os
import re
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from mlflow.exceptions import MlflowException

from dreamorph.errors import DreamorphError
from dreamorph.tracking.dashboard import link, serve
from dreamorph.tracking.server import asking, check_server, is_server

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


class Refusing(BaseHTTPRequestHandler):
    """Answers with the status and the body that its server holds, and counts."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A server whose answer the test sets."""
    with HTTPServer(("127.0.0.1", 0), Refusing) as found:
        found.asked = []  # type: ignore[attr-defined]
        thread = Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_what_is_a_server() -> None:
    assert is_server("https://mlflow.site")
    assert is_server("http://127.0.0.1:5000")
    assert not is_server("sqlite:////a/mlflow.db")


def test_no_server_is_told_without_names_and_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RETRIES, "3")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for password in ("secret", "s#ecr/et", "se@cret"):
            uri = f"http://someone:{password}@127.0.0.1:{port}"
            with pytest.raises(DreamorphError) as caught:
                check_server(uri)
            with pytest.raises(DreamorphError) as served:
                serve(uri, "test", None, announce=pytest.fail)
            text = (
                f"the MLflow server http://127.0.0.1:{port} does not answer; start it, or correct"
            )
            assert str(caught.value).startswith(text)
            assert str(served.value).startswith(text)
    assert os.environ[RETRIES] == "3"


def test_the_dashboard_of_a_server_is_told_without_names_and_passwords(server: HTTPServer) -> None:
    server.answer = (200, b'{"experiment": {"experiment_id": "7"}}')  # type: ignore[attr-defined]
    told: list[str] = []
    serve(f"http://someone:secret@127.0.0.1:{server.server_port}", "test", None, told.append)
    assert told == [link(f"http://127.0.0.1:{server.server_port}", "7")]


def test_a_server_that_answers(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    server.answer = (200, b'{"experiments": []}')  # type: ignore[attr-defined]
    check_server(f"http://127.0.0.1:{server.server_port}")
    assert server.asked  # type: ignore[attr-defined]
    assert RETRIES not in os.environ


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            403,
            b'{"error_code": "PERMISSION_DENIED"}',
            r"refuses \(permission_denied\); give MLFLOW",
        ),
        (401, b"You are not authenticated", "answers with HTTP status 401; give MLFLOW_TRACKING_"),
        (401, b'{"detail": "no"}', "refuses; start it, or correct"),
        (503, b"busy", "answers with HTTP status 503; start it, or correct"),
        (200, b"<html>Log in</html>", "answers, but not as MLflow does; start it, or correct"),
    ],
)
def test_a_server_that_refuses(server: HTTPServer, status: int, body: bytes, words: str) -> None:
    server.answer = (status, body)  # type: ignore[attr-defined]
    with pytest.raises(DreamorphError) as caught:
        check_server(f"http://127.0.0.1:{server.server_port}")
    assert re.search(words, str(caught.value))
    assert len(server.asked) == 1  # type: ignore[attr-defined]


def test_of_a_database_errors_stay_what_they_are() -> None:
    with pytest.raises(MlflowException, match="an error"), asking("sqlite:////a/mlflow.db"):
        raise MlflowException("an error")
