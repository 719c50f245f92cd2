"""Curves and values of any handy form."""

import math

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from dreamorph.tracking.metrics import flat_metrics, log_history, log_metrics, log_params

WIDE = {"step": [0, 2], "train/loss": [1.0, 0.5], "val/dice": [None, 0.7]}
LONG = [
    {"step": 0, "metric": "train/loss", "value": 1.0},
    {"step": 2, "metric": "train/loss", "value": 0.5},
    {"step": 2, "metric": "val/dice", "value": 0.7},
]


def points(client: MlflowClient, run: str, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run, name)]


@pytest.mark.parametrize("history", [WIDE, LONG, pd.DataFrame(WIDE), pd.DataFrame(LONG)])
def test_histories(client: MlflowClient, parent: str, history: object) -> None:
    log_history(client, parent, history)
    assert points(client, parent, "train/loss") == [(0, 1.0), (2, 0.5)]
    assert points(client, parent, "val/dice") == [(2, 0.7)]


def test_an_empty_history(client: MlflowClient, parent: str) -> None:
    log_history(client, parent, [])
    assert client.get_run(parent).data.metrics == {}


def test_values_that_mlflow_cannot_hold_are_left_out(client: MlflowClient, parent: str) -> None:
    log_metrics(client, parent, {"a": math.inf, "b": math.nan, "c": None, "d": {"e(1)": 2}})
    (name,) = client.get_run(parent).data.metrics
    assert name.startswith("d/e_1_.")


def test_many_of_them_take_several_requests(client: MlflowClient, parent: str) -> None:
    log_params(client, parent, {f"p{i}": "1" for i in range(250)})
    log_metrics(client, parent, {f"m{i}": i for i in range(1500)})
    data = client.get_run(parent).data
    assert (len(data.params), len(data.metrics)) == (250, 1500)


def test_flat_metrics() -> None:
    assert flat_metrics({"a": {"b": {"c": 1}}, "d": 2}) == {"a/b/c": 1, "d": 2}
