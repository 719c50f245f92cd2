from dataclasses import replace
from types import SimpleNamespace

import pytest

from dreamorph.errors import DreamError
from dreamorph.hallucination import AuditConfig, Gate, gate, rejection_counts
from dreamorph.hallucination.config import GATE_FIELDS
from dreamorph.hallucination.gate import GATE_COLUMNS
from tests.hallucination.worlds import make_dreams, warps, with_islands


@pytest.fixture(scope="module")
def judge(world):
    return Gate(world.evidence.reals, world.evidence.pairs, AuditConfig(), "prior0")


def test_most_honest_dreams_pass(world, judge):
    table = judge.judge(world.evidence.dreams)
    assert tuple(table.columns) == GATE_COLUMNS
    assert table["accepted"].mean() > 0.8
    assert set(table["reason"]) <= {"", "jacobian_envelope"}


def test_each_fault_is_named(world, judge):
    dreams = world.evidence.dreams.select(slice(6))
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


def test_canary_a_small_island_is_lost(few):
    """The gate asks what the check asks."""
    dotted = with_islands(few, (2, 2, 2)).evidence
    config = AuditConfig().model_copy(update={"gate_provenance": False})
    judge = Gate(dotted.reals, dotted.pairs, config, "prior0")
    labels = dotted.dreams.labels.clone()
    labels[5, 0, :6, :6, :9] = 0
    honest, spoiled = (
        judge.judge(d) for d in (dotted.dreams, replace(dotted.dreams, labels=labels))
    )
    assert "topology" not in set(honest["reason"])
    assert spoiled["reason"].tolist() == [*honest["reason"][:5], "topology", *honest["reason"][6:]]


def test_folded_warp_is_kept_out(world, judge):
    sources = world.evidence.dreams.source_index.tolist()[:2]
    velocity = world.evidence.dreams.transforms.velocity[:2].clone()
    velocity[1] *= 30
    table = judge.judge(make_dreams(world.evidence.reals, sources, warps(velocity)))
    assert table["folded_voxels"][0] == 0
    assert "folds" in table["reason"][1]
    assert "jacobian_envelope" in table["reason"][1]


def test_batches_do_not_matter(world, judge):
    whole = judge.judge(world.evidence.dreams.select(slice(4)))
    two = world.evidence.dreams.select(slice(2))
    again = gate(two, world.evidence.reals, world.evidence.pairs, AuditConfig())
    assert whole.iloc[:2].equals(again)


def test_the_gate_reads_no_more_of_the_audit_than_is_said(world):
    """Dreams are judged anew only when one of these changes."""
    known = AuditConfig()
    assert set(known.of_the_gate()) == GATE_FIELDS
    assert known.of_the_gate() == AuditConfig(remove_min_dice=0.6, seed=3).of_the_gate()
    assert known.of_the_gate() != AuditConfig(topology_controls=3).of_the_gate()
    only = SimpleNamespace(**{name: getattr(known, name) for name in GATE_FIELDS})
    dreams = world.evidence.dreams.select(slice(3))
    judged = Gate(world.evidence.reals, world.evidence.pairs, only, "prior0").judge(dreams)
    assert len(judged) == 3


def test_provenance_can_be_left_to_the_audit(world):
    config = AuditConfig().model_copy(update={"gate_provenance": False})
    dreams = world.evidence.dreams.select(slice(3))
    dreams = replace(dreams, images=dreams.images + 1)
    table = gate(dreams, world.evidence.reals, world.evidence.pairs, config)
    assert "provenance" not in set(table["reason"])


def test_no_pairs_is_one_clear_error(world):
    with pytest.raises(DreamError, match="registered real pair"):
        Gate(world.evidence.reals, world.evidence.pairs.iloc[:0], AuditConfig())
