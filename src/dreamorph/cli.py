"""The project's commands for `kedro`: its own `run`, whose errors are one line, and `dashboard`."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option
from kedro.framework.project import pipelines, settings
from kedro.framework.startup import ProjectMetadata
from tqdm.contrib.logging import logging_redirect_tqdm

from dreamorph.errors import ParameterError
from dreamorph.hooks import TrackingHook, in_project
from dreamorph.tracking.dashboard import serve
from dreamorph.tracking.failures import expected, one_line

logger = logging.getLogger(__name__)

DEBUG = "DREAMORPH_DEBUG"
_STOPPED = {signal.SIGINT: "stopped", signal.SIGTERM: "stopped from outside"}


class _SignalledError(BaseException):
    """A polite request to stop, which no node may swallow."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@click.group(name="dreamorph")
def cli() -> None:
    """Commands of this project."""


def _run(verbose: bool, **options: Any) -> None:
    with _one_line_errors(verbose, "; the same command resumes"), logging_redirect_tqdm():
        _check_pipelines([options["pipeline"] or "", *options["pipelines"]])
        kedro_run.callback(**options)


cli.add_command(
    click.Command(
        "run",
        callback=_run,
        help="Run the pipeline; a stopped run goes on where it stopped.",
        params=[
            *kedro_run.params,
            click.Option(["--verbose"], is_flag=True, help="Show the traceback of an error."),
        ],
    )
)


@cli.command()
@click.option("--port", type=int, default=None, help="Port; by default a free one from 5000 on.")
@env_option
@click.option("--verbose", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def dashboard(metadata: ProjectMetadata, port: int | None, env: str | None, verbose: bool) -> None:
    """Serve the tracked runs to a browser until Ctrl-C."""
    with _one_line_errors(verbose):
        project = Path(metadata.project_path)
        loader = settings.CONFIG_LOADER_CLASS(
            str(project / settings.CONF_SOURCE), env=env, **settings.CONFIG_LOADER_ARGS
        )
        config = loader["mlflow"]
        uri = in_project(config["server"]["mlflow_tracking_uri"], project)
        experiment = config["tracking"]["experiment"]["name"]
        serve(str(uri), experiment, port, announce=click.echo)


@contextmanager
def _one_line_errors(verbose: bool, when_stopped: str = "") -> Iterator[None]:
    """Any error as one line and an exit code; the traceback on request."""
    verbose = verbose or os.environ.get(DEBUG, "") not in ("", "0")
    try:
        with _signals():
            yield
    except (_SignalledError, KeyboardInterrupt) as stop:
        number = stop.number if isinstance(stop, _SignalledError) else signal.SIGINT
        reason = _STOPPED[signal.Signals(number)]
        _close_run("KILLED", reason)
        click.echo(f"{reason}{when_stopped}", err=True)
        sys.exit(128 + number)
    except (click.exceptions.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        _close_run("FAILED", one_line(error))
        if verbose:
            raise
        hint = "" if expected(error) else " (add --verbose to see where)"
        click.echo(f"Error: {one_line(error)}{hint}", err=True)
        sys.exit(1)


@contextmanager
def _signals() -> Iterator[None]:
    """Clusters ask to stop by SIGTERM: close the MLflow run then as for Ctrl-C."""

    main = os.getpid()

    def stop(number: int, _: Any) -> None:
        if os.getpid() != main:  # a forked worker, which its pool asks to end
            os._exit(128 + number)
        raise _SignalledError(number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _close_run(status: str, reason: str) -> None:
    for hook in settings.HOOKS:
        if isinstance(hook, TrackingHook):
            hook.close(status, reason)


def _check_pipelines(names: list[str]) -> None:
    pipelines.set_requested(None)
    for name in filter(None, names):
        if name not in pipelines:
            known = sorted(key for key in pipelines if not key.startswith("__"))
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ParameterError(f"no pipeline '{name}': there are {', '.join(known)}{hint}")
