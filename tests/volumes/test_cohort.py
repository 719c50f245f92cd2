"""The record and its helpers."""

import dataclasses

import numpy as np
import pytest
import torch

from dreamorph.errors import CohortError
from dreamorph.volumes.cohort import TABLE_COLUMNS, Cohort
from dreamorph.volumes.records import frame


def make():
    splits = ["train", "test", "unlabelled", "train"]
    rows = [
        {
            "case": f"scan_{i}",
            "subject": f"s{i}",
            "class": None,
            "split": split,
            "labelled": split != "unlabelled",
            "fingerprint": f"{i:016x}",
        }
        for i, split in enumerate(splits)
    ]
    return Cohort(
        table=frame(rows, TABLE_COLUMNS).astype({"labelled": bool}),
        images=torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 1, 2, 3, 4).clone(),
        labels=torch.zeros((4, 1, 2, 3, 4), dtype=torch.uint8),
        masks=torch.ones((4, 1, 2, 3, 4), dtype=torch.bool),
        affines=np.stack([np.eye(4)] * 4),
        spacing_mm=(1.0, 1.0, 1.0),
        label_names={1: "a", 2: "b"},
        class_names=[],
        modality="MR",
    )


def test_helpers():
    cohort = make()
    assert len(cohort) == 4
    assert cohort.shape == (2, 3, 4)
    assert cohort.n_labels == 2
    assert cohort.indices("train") == [0, 3]
    assert cohort.indices("test") == [1]
    assert cohort.index_of("scan_2") == 2
    with pytest.raises(CohortError, match="no case 'scan_9'"):
        cohort.index_of("scan_9")


def test_select_keeps_rows_together():
    part = make().select([3, 1])
    assert part.cases == ["scan_3", "scan_1"]
    assert part.images[:, 0, 0, 0, 0].tolist() == [3.0, 1.0]
    assert part.indices("test") == [1]
    assert part.table.index.tolist() == [0, 1]


def test_fingerprint_follows_content():
    cohort = make()
    assert cohort.fingerprint() == make().fingerprint()
    moved = cohort.affines.copy()
    moved[2, 0, 3] += 0.5
    assert dataclasses.replace(cohort, affines=moved).fingerprint() != cohort.fingerprint()
    assert cohort.select([0, 1]).fingerprint() != cohort.fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros((4, 1, 2, 3, 5), dtype=torch.uint8)}, "cohort labels"),
        ({"labels": torch.zeros((4, 1, 2, 3, 4))}, "cohort labels"),
        ({"images": torch.zeros((3, 1, 2, 3, 4))}, "cohort images"),
        ({"affines": np.zeros((4, 4, 4), dtype=np.float32)}, "cohort affines"),
        ({"table": frame([], ("case",))}, "table column 'subject'"),
    ],
)
def test_parts_that_do_not_fit(changes, message):
    with pytest.raises(CohortError, match=message):
        dataclasses.replace(make(), **changes)
