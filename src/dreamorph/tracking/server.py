"""An MLflow server of the site: asked quickly at first, before hours of work count on it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, ErrorCode
from mlflow.tracking import MlflowClient

from dreamorph.errors import DreamorphError

#: How long a server may give no sign of life.
SECONDS = 20

_STATUS = re.compile(r"error code (\d{3})|too many (\d{3}) error responses")
_FORBIDDEN = {"401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED"}
_NO_CODE = ErrorCode.Name(INTERNAL_ERROR)


def is_server(uri: str) -> bool:
    """Whether runs are tracked by a server, not in a database of the project."""
    return uri.startswith(("http://", "https://"))


def shown(uri: str) -> str:
    """An address without names and passwords."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else uri


def check_server(uri: str) -> None:
    """Ask a server for anything at all.

    Raises DreamorphError where it does not answer or refuses.
    """
    with asking(uri):
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


@contextmanager
def asking(uri: str) -> Iterator[None]:
    """One try of seconds for whatever is asked of a server; MLflow by itself tries for minutes.

    Raises DreamorphError, one line, where the server does not answer or refuses. Of an address that
    is no server's nothing changes.
    """
    if not is_server(uri):
        yield
        return
    try:
        with _impatient():
            yield
    except MlflowException as error:
        raise _not_usable(uri, error) from None


@contextmanager
def _impatient() -> Iterator[None]:
    wanted = {MLFLOW_HTTP_REQUEST_MAX_RETRIES: 0, MLFLOW_HTTP_REQUEST_TIMEOUT: SECONDS}
    before = {variable: variable.get_raw() for variable in wanted}
    for variable, value in wanted.items():
        variable.set(value)
    try:
        yield
    finally:
        for variable, old in before.items():
            if old is None:
                variable.unset()
            else:
                variable.set(old)


def _not_usable(uri: str, error: MlflowException) -> DreamorphError:
    found = _STATUS.search(str(error))
    status = (found.group(1) or found.group(2)) if found else ""
    if isinstance(error, RestException):  # MLflow itself has answered, or somebody in its place
        status = "" if error.error_code == _NO_CODE else error.error_code
        why = f"refuses ({status.lower()})" if status else "refuses"
    elif status:
        why = f"answers with HTTP status {status}"
    elif "valid JSON" in str(error):
        why = "answers, but not as MLflow does"
    else:
        why = "does not answer"
    if status in _FORBIDDEN:
        advice = (
            "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN,"
            " in the environment"
        )
    else:
        advice = (
            "start it, or correct mlflow_tracking_uri in conf (local/mlflow.yml, or the preset's)"
        )
    return DreamorphError(f"the MLflow server {shown(uri)} {why}; {advice}")
