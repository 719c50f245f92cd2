"""An MLflow server of the site: asked once, quickly, before hours of work count on it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException, RestException
from mlflow.tracking import MlflowClient

from dreamorph.errors import DreamorphError

#: How long an answer may take.
SECONDS = 20
_STATUS = re.compile(r"error code (\d{3})")


def is_server(uri: str) -> bool:
    """Whether runs are tracked by a server, not in a database of the project."""
    return uri.startswith(("http://", "https://"))


def check_server(uri: str) -> None:
    """Ask the server for anything at all; MLflow by itself tries for minutes.

    Raises DreamorphError where it does not answer or refuses. Names and passwords in the address
    are not told.
    """
    try:
        with _impatient():
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except RestException as error:  # an answer, and a kind of MlflowException
        raise _not_usable(uri, f"refuses ({error.error_code.lower()})") from None
    except MlflowException as error:
        status = _STATUS.search(str(error))
        why = f"answers with HTTP status {status.group(1)}" if status else "does not answer"
        raise _not_usable(uri, why) from None


@contextmanager
def _impatient() -> Iterator[None]:
    """One try of a few seconds, where MLflow makes several of minutes."""
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


def _not_usable(uri: str, why: str) -> DreamorphError:
    address = urlsplit(uri)
    host = f"{address.scheme}://{address.hostname}" + (f":{address.port}" if address.port else "")
    return DreamorphError(
        f"the MLflow server {host} {why}; start it, or correct mlflow_tracking_uri in conf"
        " (local/mlflow.yml, or the preset's)"
    )
