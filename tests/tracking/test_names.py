"""Labels may be called anything; MLflow is told names that it takes."""

import pytest
from mlflow.tracking import MlflowClient

from dreamorph.tracking.metrics import log_metrics, log_params
from dreamorph.tracking.names import tidy_name
from dreamorph.tracking.parameters import columns

NAMES = ["GTV/", "a//b", "GTV/../x", "/a", "Größe µ", "L+R", "L_R", "L&R", "n" * 300, "n" * 301]


def test_different_names_stay_different() -> None:
    tidied = {tidy_name(name) for name in NAMES}
    assert len(tidied) == len(NAMES)
    assert max(map(len, tidied)) <= 250


@pytest.mark.parametrize("name", ["test/dice_mean", "check/folds", "a b-c.d:e", "L_R", "n" * 250])
def test_good_names_stay_as_they_are_whatever_the_others_are(name: str) -> None:
    assert tidy_name(name) == name


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_takes_them(client: MlflowClient, parent: str, name: str) -> None:
    log_metrics(client, parent, {"test": {f"dice_{name}": 0.5}})
    log_params(client, parent, columns({"cohort": {"structures": {name: "pattern"}}}))
    data = client.get_run(parent).data
    assert list(data.metrics.values()) == [0.5]
    assert list(data.params.values()) == ["pattern"]


def test_labels_of_like_names_keep_their_values(client: MlflowClient, parent: str) -> None:
    log_metrics(client, parent, {"dice_L+R": 0.1, "dice_L_R": 0.9, "dice_L&R": 0.3})
    assert sorted(client.get_run(parent).data.metrics.values()) == [0.1, 0.3, 0.9]
