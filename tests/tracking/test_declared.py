"""Each kind of declaration, on a catalog of its own."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DataCatalog
from mlflow.tracking import MlflowClient

from dreamorph.datasets import AtomicFile, AtomicStore, BytesStore
from dreamorph.errors import ParameterError
from dreamorph.tracking.declared import Recorder, as_table


@dataclass
class Row:
    name: str
    value: float


class Case:
    """A catalog of one entry, recorded into one run."""

    def __init__(self, client: MlflowClient, run_id: str, dataset: Any) -> None:
        self.client, self.run_id, self.dataset = client, run_id, dataset
        self.recorder = Recorder(client, run_id, DataCatalog({"entry": dataset}))

    def save(self, data: Any) -> None:
        self.dataset.save(data)
        self.recorder.saved("entry", data)

    @property
    def files(self) -> list[str]:
        return [item.path for item in self.client.list_artifacts(self.run_id)]


def declared(**declaration: Any) -> dict[str, Any]:
    return {"mlflow": declaration}


def test_a_folder_of_pictures(client: MlflowClient, parent: str, tmp_path: Path) -> None:
    store = BytesStore(str(tmp_path / "montages"), metadata=declared(kind="artifact"))
    case = Case(client, parent, store)
    case.save({"a": b"1"})
    assert [item.path for item in client.list_artifacts(parent, "montages")] == ["montages/a.png"]


@pytest.mark.parametrize(
    "data",
    [
        [Row("folds", 1.0), Row("drift", float("nan"))],
        [{"name": "folds", "value": 1.0}, {"name": "drift", "value": None}],
        {"name": ["folds", "drift"], "value": [1.0, None]},
    ],
)
def test_checks_of_any_form(client: MlflowClient, parent: str, tmp_path: Path, data: Any) -> None:
    store = BytesStore(str(tmp_path / "x"), metadata=declared(kind="checks", file="checks.json"))
    case = Case(client, parent, store)
    case.recorder.saved("entry", data)
    assert client.get_run(parent).data.metrics == {"check/folds": 1.0}
    file = client.download_artifacts(parent, "checks.json", str(tmp_path))
    assert json.loads(Path(file).read_text())["columns"] == ["name", "value"]


def test_canary_a_check_without_a_number_leaves_its_verdict(
    client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    """One that failed for want of a number must not look as if it had not been made."""
    verdicts = {"a": "pass", "b": "fail", "c": "not_assessable", "d": "maybe"}
    rows = [{"name": n, "value": None, "verdict": v} for n, v in verdicts.items()]
    store = BytesStore(str(tmp_path / "x"), metadata=declared(kind="checks"))
    Case(client, parent, store).recorder.saved("entry", rows)
    found = client.get_run(parent).data.metrics
    assert found == {f"check_passed/{n}": v for n, v in zip("abcd", (1, 0, -1, 0), strict=True)}


def test_a_run_bears_its_verdict_once_it_is_complete(
    client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    """One that is killed after the checks, and before all is written, has none."""
    file = AtomicFile(str(tmp_path / "x.json"), "json.JSONDataset", declared(kind="tags"))
    case = Case(client, parent, file)
    case.save({"verdict": "pass"})
    assert "verdict" not in client.get_run(parent).data.tags
    case.recorder.complete(["entry"])
    assert client.get_run(parent).data.tags["verdict"] == "pass"


def test_a_description_is_shown_once_all_is_logged(
    client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    metadata = declared(kind="description")
    file = AtomicFile(str(tmp_path / "x.md"), "text.TextDataset", metadata)
    case = Case(client, parent, file)
    case.save("**verdict: fail**")
    assert "mlflow.note.content" not in client.get_run(parent).data.tags
    case.recorder.complete(["entry"])
    assert client.get_run(parent).data.tags["mlflow.note.content"] == "**verdict: fail**"


def test_metrics_under_a_prefix(client: MlflowClient, parent: str, tmp_path: Path) -> None:
    metadata = declared(kind="metrics", prefix="prior")
    file = AtomicFile(str(tmp_path / "x.json"), "json.JSONDataset", metadata)
    Case(client, parent, file).save({"coverage": 0.9, "modes": {"first": 1}})
    assert client.get_run(parent).data.metrics == {"prior/coverage": 0.9, "prior/modes/first": 1}


def test_a_resumed_run_logs_what_lies_there_once(
    client: MlflowClient, parent: str, experiment: str, tmp_path: Path
) -> None:
    store = AtomicStore(str(tmp_path / "arms"), metadata=declared(kind="arms"))
    store.save({"key_1": {"arm": "none", "params": {"lr": 1}}})  # by an earlier process
    case = Case(client, parent, store)
    case.save({"dream": {"params": {"lr": 2}}, "gone": None})
    for _ in range(2):
        case.recorder.complete(["entry"])
    nested = [r for r in client.search_runs([experiment]) if "arm" in r.data.tags]
    assert {r.data.tags["arm"]: r.data.params["lr"] for r in nested} == {"none": "1", "dream": "2"}
    assert len(nested) == 2


def linear(item: dict[str, Any]) -> torch.nn.Module:
    return torch.nn.Conv3d(1, item["params"]["channels"], 1)


def test_nets_are_exported_only_when_the_node_that_trains_has_ended(
    client: MlflowClient, parent: str, experiment: str, tmp_path: Path
) -> None:
    """An export switches kernels of the whole process: what is still training would differ."""
    metadata = declared(kind="arms", net="tests.tracking.test_declared.linear")
    case = Case(client, parent, AtomicStore(str(tmp_path / "arms"), metadata=metadata))
    enabled: list[bool] = []
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            enabled.append(torch._C._get_mkldnn_enabled())

    def models() -> list[str]:
        nested = [r for r in client.search_runs([experiment]) if "arm" in r.data.tags]
        assert len(nested) == 1
        return [tag for tag in nested[0].data.tags if tag.startswith("model_")]

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        case.save({"dream": {"params": {"channels": 2}, "input_shape": [1, 4, 4, 4]}})
    finally:
        stopped.set()
        watcher.join()
    assert enabled
    assert all(enabled)
    assert models() == []
    case.recorder.node_ended()
    assert models() == ["model_uri"]


def test_what_does_not_exist_is_passed_over(
    client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    metadata = declared(kind="artifact", announce="report")
    case = Case(client, parent, AtomicFile(str(tmp_path / "r"), "text.TextDataset", metadata))
    case.recorder.complete(["entry"])
    assert case.files == []
    assert case.recorder.announcements(["entry"]) == {}
    case.save("<html></html>")
    assert case.files == ["r"]
    assert case.recorder.announcements(["entry"]) == {"report": tmp_path / "r"}
    assert case.recorder.announcements(["other"]) == {}


def test_entries_without_a_declaration_are_not_logged(
    client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    case = Case(client, parent, AtomicFile(str(tmp_path / "r"), "text.TextDataset"))
    case.save("x")
    case.recorder.complete(["entry"])
    assert case.files == []


def test_a_wrong_declaration_names_the_entry(
    client: MlflowClient, parent: str, tmp_path: Path
) -> None:
    case = Case(client, parent, BytesStore(str(tmp_path), metadata=declared(kind="picture")))
    with pytest.raises(ParameterError, match=r"catalog entry 'entry', metadata\.mlflow"):
        case.recorder.declare(["entry"])


def test_as_table_keeps_columns() -> None:
    assert list(as_table([Row("a", 1.0)]).columns) == ["name", "value"]
