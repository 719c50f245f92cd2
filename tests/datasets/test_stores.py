"""Stores of items: whole or absent, lazily read, safe to resume on."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io.core import DatasetError

from dreamorph.datasets import AtomicStore, BytesStore, DamagedItemError
from dreamorph.datasets.atomic import host_id
from dreamorph.errors import DreamorphError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats(allow_nan=False) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def store(tmp_path: Path) -> AtomicStore:
    return AtomicStore(str(tmp_path / "items"))


def test_an_absent_folder_is_an_empty_store(store: AtomicStore) -> None:
    assert len(store.load()) == 0
    assert not store.exists()
    store.save({})
    assert len(store.load()) == 0


def test_items_come_back(store: AtomicStore) -> None:
    item = {
        "fingerprint": "f",
        "field": torch.arange(6.0).reshape(1, 2, 3),
        "rows": [(1, "a"), None],
    }
    store.save({"b__c": item, "a": {"fingerprint": "g"}})
    items = store.load()
    assert list(items) == ["a", "b__c"]
    torch.testing.assert_close(items["b__c"]["field"], item["field"])
    assert items["b__c"]["rows"] == item["rows"]
    assert store.exists()
    assert "2 items" in repr(items)
    with pytest.raises(KeyError):
        items["absent"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN)
def test_plain_values_come_back(store: AtomicStore, value: object) -> None:
    store.save({"x": {"value": value}})
    assert store.load()["x"] == {"value": value}


def test_a_view_does_not_drag_its_storage_along(store: AtomicStore) -> None:
    batch = torch.zeros(1000, 1000)
    store.save({"x": {"row": batch[3], "all": batch[:1].T}})
    assert (store.path / "x.pt").stat().st_size < 50_000


def test_other_objects_are_refused_by_name(store: AtomicStore) -> None:
    with pytest.raises(DatasetError, match=r"x\.affine is a ndarray"):
        store.save({"x": {"affine": np.eye(4)}})
    assert len(store.load()) == 0


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "x" * 200])
def test_keys_that_are_no_file_names_are_refused(store: AtomicStore, key: str) -> None:
    with pytest.raises(DatasetError, match="a key names a file"):
        store.save({key: {}})


def test_none_removes_an_item(store: AtomicStore) -> None:
    store.save({"a": {}, "b": {}, "c": {}})
    store.save(store.load().stale(["b"]))
    assert list(store.load()) == ["b"]
    store.save({"never there": None})


def test_a_store_that_is_only_written_removes_what_dead_writers_left(tmp_path: Path) -> None:
    left = tmp_path / f".tmp-{host_id()}-{2**22 + 1}-00000000-a.png"  # no process has that number
    left.write_bytes(b"half")
    BytesStore(str(tmp_path)).save({"a": b"whole"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("keep", [0, 1, 0.5, 0.99])
def test_a_truncated_item_is_absent(
    store: AtomicStore, keep: float, caplog: pytest.LogCaptureFixture
) -> None:
    store.save({"a": {"x": torch.rand(100)}, "b": {}})
    path = store.path / "a.pt"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else 1])
    with caplog.at_level(logging.WARNING):
        items = store.load()
    assert list(items) == ["b"]
    assert "damaged" in caplog.text
    store.save({"a": {"x": torch.ones(1)}})
    assert list(store.load()) == ["a", "b"]


def test_a_damaged_item_is_removed_when_it_is_read(store: AtomicStore) -> None:
    store.save({"a": {"x": torch.rand(100)}})
    path = store.path / "a.pt"
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)  # the pickle, while the archive's directory stays good
    path.write_bytes(data)
    items = store.load()
    assert items.get("a") is None
    assert not path.exists()
    path.write_bytes(data)
    with pytest.raises(DamagedItemError, match="the same command makes it anew") as caught:
        items["a"]
    assert isinstance(caught.value, DreamorphError)
    assert isinstance(caught.value, KeyError)


def test_code_in_a_file_is_not_run(store: AtomicStore) -> None:
    store.path.mkdir()
    torch.save({"x": Path("/")}, store.path / "a.pt")
    assert store.load().get("a") is None


def test_foreign_files_are_left_alone(store: AtomicStore) -> None:
    store.path.mkdir()
    (store.path / "notes.txt").write_text("mine")
    store.save({"a": {}})
    assert list(store.load()) == ["a"]
    assert (store.path / "notes.txt").read_text() == "mine"


def test_changes_of_a_loaded_tensor_stay_private(store: AtomicStore) -> None:
    store.save({"a": {"x": torch.zeros(3)}})
    store.load()["a"]["x"].add_(1)
    assert store.load()["a"]["x"].sum() == 0


def test_bytes(tmp_path: Path) -> None:
    store = BytesStore(str(tmp_path / "pictures"))
    store.save({"a": b"png"})
    assert dict(store.load()) == {"a": b"png"}
    assert (tmp_path / "pictures" / "a.png").exists()
    store.save({"a": None})
    assert not store.exists()
