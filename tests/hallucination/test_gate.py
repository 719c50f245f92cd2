from dataclasses import replace

import pytest
import torch

from dreamorph.errors import DreamError
from dreamorph.hallucination import AuditConfig, Gate, gate, rejection_counts
from dreamorph.hallucination.gate import GATE_COLUMNS
from tests.hallucination.worlds import FakeDreams, make_dreams, warps


def first(dreams, n):
    return FakeDreams(
        dreams.images[:n], dreams.labels[:n], dreams.masks[:n], dreams.transforms[:n],
        dreams.recipes[:n], dreams.source_index[:n],
    )  # fmt: skip


@pytest.fixture(scope="module")
def judge(world):
    return Gate(world.evidence.reals, world.evidence.pairs, AuditConfig(), "prior0")


def test_most_honest_dreams_pass(world, judge):
    table = judge.judge(world.evidence.dreams)
    assert tuple(table.columns) == GATE_COLUMNS
    assert table["accepted"].mean() > 0.8
    assert set(table["reason"]) <= {"", "jacobian_envelope"}


def test_each_fault_is_named(world, judge):
    dreams = first(world.evidence.dreams, 6)
    images, labels = dreams.images.clone(), dreams.labels.clone()
    images[0, 0, 10, 10, 10] += 1
    labels[1, 0, 12][labels[1, 0, 12] == 1] = 0
    recipes = list(dreams.recipes)
    recipes[2] = replace(recipes[2], prior="other")
    table = judge.judge(replace(dreams, images=images, labels=labels, recipes=tuple(recipes)))
    assert table["reason"][0] == "provenance"
    assert table["reason"][1] == "topology; provenance"
    assert table["reason"][2] == "provenance"
    assert rejection_counts([table])["provenance"] == 2


def test_folded_warp_is_kept_out(world, judge):
    sources = world.evidence.dreams.source_index.tolist()[:2]
    velocity = world.evidence.dreams.transforms.velocity[:2] * torch.tensor([1.0, 30]).reshape(
        2, 1, 1, 1, 1
    )
    table = judge.judge(make_dreams(world.evidence.reals, sources, warps(velocity)))
    assert table["folded_voxels"][0] == 0
    assert "folds" in table["reason"][1]
    assert "jacobian_envelope" in table["reason"][1]


def test_batches_do_not_matter(world, judge):
    whole = judge.judge(first(world.evidence.dreams, 4))
    again = gate(
        first(world.evidence.dreams, 2), world.evidence.reals, world.evidence.pairs, AuditConfig()
    )
    assert whole.iloc[:2].equals(again)


def test_provenance_can_be_left_to_the_audit(world):
    config = AuditConfig(gate_provenance=False)
    dreams = first(world.evidence.dreams, 3)
    dreams = replace(dreams, images=dreams.images + 1)
    table = gate(dreams, world.evidence.reals, world.evidence.pairs, config)
    assert "provenance" not in set(table["reason"])


def test_no_pairs_is_one_clear_error(world):
    with pytest.raises(DreamError, match="registered real pair"):
        Gate(world.evidence.reals, world.evidence.pairs.iloc[:0], AuditConfig())
