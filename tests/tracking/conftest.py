"""A tracking database with one parent run."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient


@pytest.fixture
def client(
    tmp_path: Path, empty_tracking_database: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    shutil.copy(empty_tracking_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def experiment(client: MlflowClient, tmp_path: Path) -> str:
    return client.create_experiment("test", artifact_location=(tmp_path / "artifacts").as_uri())


@pytest.fixture
def parent(client: MlflowClient, experiment: str) -> str:
    return client.create_run(experiment).info.run_id
