"""What the dreaming step writes for people to look at."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.datasets import NiftiStore
from dreamorph.dreaming import DreamConfig
from dreamorph.hallucination import AuditConfig
from dreamorph.pipelines.dream import nodes

FACTS = {
    "layout": "folder", "modality": "MR", "label_values": {"100": 1, "300": 2},
    "label_names": {"1": "head", "2": "tail"}, "class_names": [],
}  # fmt: skip


@pytest.fixture
def saved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Dreams of one volume, written for a cohort whose headers begin at a point."""
    labels = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    labels[..., 1], labels[..., 2] = 1, 2
    monkeypatch.setattr(
        nodes, "sources_of", lambda cohort: SimpleNamespace(n_labels=max(1, cohort.n_labels))
    )
    monkeypatch.setattr(nodes, "recipes_from_table", lambda part: list(part["source"]))
    monkeypatch.setattr(
        nodes,
        "replay",
        lambda prior, sources, found: SimpleNamespace(
            images=torch.rand(1, 1, 4, 4, 4), labels=labels,
            recipes=[SimpleNamespace(source=name) for name in found],
        ),
    )  # fmt: skip
    table = pd.DataFrame(
        {"dream": ["dream_1"], "key": ["dream_1-known"], "source": ["a"], "accepted": [True]}
    )
    store = NiftiStore(str(tmp_path / "dreams"))

    def save(origin: float, facts: dict[str, Any] = FACTS, n_labels: int = 2) -> dict[str, Any]:
        labels.clamp_(max=max(1, n_labels))
        affine = np.eye(4)
        affine[:3, 3] = origin
        cohort = SimpleNamespace(n_labels=n_labels, affines=[affine], index_of=lambda _: 0)
        for item in nodes.save_dreams(cohort, None, table, facts, DreamConfig(), store.load()):  # type: ignore[arg-type]
            store.save(item)
        return dict(store.load())

    return save


def test_dreams_follow_a_corrected_header(saved: Any) -> None:
    (first,) = saved(0.0).values()
    assert np.allclose(first["affine"][:3, 3], 0)
    (second,) = saved(-90.0).values()
    assert np.allclose(second["affine"][:3, 3], -90)
    (same,) = saved(-90.0).values()
    assert torch.equal(same["image"], second["image"])  # not written again


def test_labels_of_dreams_have_the_values_of_the_cohorts_files(saved: Any) -> None:
    (one,) = saved(0.0).values()
    assert one["label"].unique().tolist() == [0, 100, 300]
    (other,) = saved(0.0, FACTS | {"label_values": {"1": 1, "2": 2}}).values()
    assert other["label"].unique().tolist() == [0, 1, 2]


def test_shapes_without_label_maps_are_their_own_label(saved: Any) -> None:
    (one,) = saved(0.0, FACTS | {"label_values": {}, "label_names": {}}, n_labels=0).values()
    assert one["label"].unique().tolist() == [0, 1]


def test_dreams_are_judged_anew_by_another_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "sources_of", lambda _: SimpleNamespace(cases=["a"]))
    monkeypatch.setattr(nodes, "Dreamer", lambda *_: SimpleNamespace(recipes=lambda *_: []))
    monkeypatch.setattr(nodes, "recipes_to_table", lambda _: pd.DataFrame({"dream": ["dream_1"]}))
    table = pd.DataFrame({"fingerprint": ["f"], "subject": ["s"], "class": [None]})
    cohort = SimpleNamespace(table=table, indices=lambda _: [0])
    monkeypatch.setattr(nodes, "trusted", lambda pairs: pairs)
    pairs = pd.DataFrame({"key": ["p"]})
    prior = SimpleNamespace(members=["a"])

    def key() -> str:
        plan = nodes.plan_dreams(cohort, prior, pairs, DreamConfig(), AuditConfig())  # type: ignore[arg-type]
        return str(plan["key"][0])

    known = key()
    assert key() == known
    monkeypatch.setattr(nodes, "GATE", nodes.GATE + 1)
    assert key() != known
