"""Metrics of any handy form as MLflow batches."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from dreamorph.tracking.names import tidy_name

_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000
_PASSED = {"pass": 1, "fail": 0, "not_assessable": -1}
_LONG = {"step", "metric", "value"}


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    """Log parameters in as few requests as MLflow allows."""
    params = [Param(name, value) for name, value in values.items()]
    for start in range(0, len(params), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + _PARAMS_PER_BATCH])


def log_metrics(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Log one value per name; nested dicts join their keys by a slash."""
    _log(client, run_id, ((name, value, 0) for name, value in flat_metrics(values).items()))


def check_metrics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Of a table of checks `check/<name>`, the value, and `check_passed/<name>`, what came of it.

    A check that failed for want of a number has no value to log, and must not look as if it had
    not been made: 1 pass, 0 fail, -1 not assessable. What is none of these has failed.
    """
    names = list(table.get("name", ()))
    found = {"check": dict(zip(names, table.get("value", ()), strict=True))}
    if "verdict" in table:
        passed = [_PASSED.get(verdict, 0) for verdict in table["verdict"]]
        found["check_passed"] = dict(zip(names, passed, strict=True))
    return found


def log_history(client: MlflowClient, run_id: str, history: Any) -> None:
    """Log curves: a long table (step, metric, value) or a wide one (step and a column each).

    A list of rows or a dict of columns will do for a table.
    """
    table = pd.DataFrame(history)
    if table.empty:
        return
    if set(table.columns) != _LONG:
        table = table.melt(id_vars="step", var_name="metric", value_name="value")
    rows = zip(table["metric"], table["value"], table["step"], strict=True)
    _log(client, run_id, ((str(name), value, int(step)) for name, value, step in rows))


def flat_metrics(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"test": {"dice": 1.0}}` -> `{"test/dice": 1.0}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}/{key}" if prefix else str(key)
        flat |= flat_metrics(value, name) if isinstance(value, Mapping) else {name: value}
    return flat


def _log(client: MlflowClient, run_id: str, rows: Iterable[tuple[str, Any, int]]) -> None:
    now = int(time.time() * 1000)
    metrics = [
        Metric(tidy_name(name), float(value), now, step)
        for name, value, step in rows
        # MLflow stores infinity as the largest float without a word: better no value.
        if value is not None and math.isfinite(value)
    ]
    for start in range(0, len(metrics), _METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])
