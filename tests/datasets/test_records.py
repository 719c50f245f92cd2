"""Records come back as they were, from plain files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.datasets import MissingDataError, RecordDataset, StorageError, records
from dreamorph.spatial import SpatialTransform
from dreamorph.volumes.cohort import Cohort


@dataclasses.dataclass(frozen=True)
class Inner:
    names: dict[int, str]
    size: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Outer:
    array: np.ndarray
    empty: np.ndarray
    table: pd.DataFrame
    inners: list[Inner]
    path: Path
    nothing: None
    large: torch.Tensor


@pytest.fixture
def dataset(tmp_path: Path) -> RecordDataset:
    return RecordDataset(str(tmp_path / "record"))


@pytest.fixture
def outer(monkeypatch: pytest.MonkeyPatch) -> Outer:
    monkeypatch.setattr(records, "PACKAGE", __name__.split(".")[0])
    return Outer(
        array=np.eye(3)[::-1],
        empty=np.zeros((0, 3)),
        table=pd.DataFrame({"case": ["a", "b"], "class": [None, "x"], "ok": [True, False]}),
        inners=[Inner({1: "one", 2: "two"}, (1, 2)), Inner({}, ())],
        path=Path("somewhere"),
        nothing=None,
        large=torch.rand(300_000),
    )


def test_every_kind_of_field_comes_back(dataset: RecordDataset, outer: Outer) -> None:
    dataset.save(outer)
    back = dataset.load()
    assert isinstance(back, Outer)
    np.testing.assert_array_equal(back.array, outer.array)
    assert back.empty.shape == (0, 3)
    pd.testing.assert_frame_equal(back.table, outer.table)
    assert (back.inners, back.path, back.nothing) == (outer.inners, outer.path, None)
    assert torch.equal(back.large, outer.large)
    back.large.add_(1)  # mapped into memory, changes stay private
    assert torch.equal(dataset.load().large, outer.large)


def test_a_cohort_comes_back(dataset: RecordDataset) -> None:
    shape = (2, 1, 4, 5, 6)
    cohort = Cohort(
        table=pd.DataFrame(
            {
                "case": ["a", "b"],
                "subject": ["1", "2"],
                "class": [None, None],
                "split": ["train", "test"],
                "labelled": [True, True],
                "fingerprint": ["f", "g"],
            }
        ),
        images=torch.rand(shape),
        labels=torch.ones(shape, dtype=torch.uint8),
        masks=torch.ones(shape, dtype=torch.bool),
        affines=np.stack([np.eye(4)] * 2),
        spacing_mm=(1.0, 1.0, 2.0),
        label_names={1: "anterior"},
        class_names=[],
        modality="MR",
    )
    dataset.save(cohort)
    back = dataset.load()
    pd.testing.assert_frame_equal(back.table, cohort.table)
    assert torch.equal(back.images, cohort.images)
    assert back.masks.dtype == torch.bool
    assert back.affines.dtype == np.float64
    assert (back.spacing_mm, back.label_names) == (cohort.spacing_mm, cohort.label_names)


def test_a_transform_comes_back(dataset: RecordDataset) -> None:
    identity = SpatialTransform.identity(2, (4, 4, 4), (1.0, 1.0, 1.0))
    dataset.save(identity)
    back = dataset.load()
    assert back.velocity is None
    assert torch.equal(back.pre, identity.pre)
    assert back.pre.dtype == torch.float64


def test_a_new_record_replaces_the_old_files(dataset: RecordDataset, outer: Outer) -> None:
    dataset.save(outer)
    before = {p.name for p in dataset.path.iterdir()}
    dataset.save(outer)
    after = {p.name for p in dataset.path.iterdir()}
    assert before & after == {"record.json"}
    assert len(before) == len(after)


def test_a_failed_save_keeps_the_old_record(dataset: RecordDataset, outer: Outer) -> None:
    dataset.save(outer)
    before = {p.name for p in dataset.path.iterdir()}
    with pytest.raises(Exception, match="a record cannot hold a object: nothing"):
        dataset.save(dataclasses.replace(outer, nothing=object()))
    assert {p.name for p in dataset.path.iterdir()} == before
    assert isinstance(dataset.load(), Outer)


def test_absent_and_broken_records_are_one_line(dataset: RecordDataset, outer: Outer) -> None:
    with pytest.raises(MissingDataError, match="does not exist yet"):
        dataset.load()
    assert not dataset.exists()
    dataset.save(outer)
    next(dataset.path.glob("array*.npy")).unlink()
    with pytest.raises(StorageError, match="remove the folder"):
        dataset.load()


def test_classes_of_other_packages_are_not_imported(dataset: RecordDataset) -> None:
    dataset.path.mkdir()
    index = {"__record__": "subprocess:Popen", "fields": {"args": "true"}}
    (dataset.path / "record.json").write_text(json.dumps(index))
    with pytest.raises(StorageError, match="not a record of dreamorph"):
        dataset.load()
