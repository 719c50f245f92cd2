"""Choosing pairs, registering them in resumable chunks, and setting bad ones aside."""

from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.errors import CohortError
from dreamorph.registration import AffineConfig, RegistrationConfig, VelocityConfig
from dreamorph.registration.groupwise import Group, quality_table, register_plan
from dreamorph.registration.pairing import PairingConfig, choose_pairs
from dreamorph.spatial import SpatialTransform, gaussian_smooth

GROUPWISE = "dreamorph.registration.groupwise"
TINY = RegistrationConfig(
    affine=AffineConfig(levels=(2,), iterations=(3,)),
    velocity=VelocityConfig(levels=(2,), iterations=(3,)),
)


def make_group(n: int = 5) -> Group:
    generator = torch.Generator().manual_seed(0)
    images = gaussian_smooth(torch.randn(n, 1, 12, 12, 12, generator=generator), 2.0) * 10
    labels = (images > 0.5).byte()
    return Group(
        images,
        labels,
        torch.ones_like(labels, dtype=torch.bool),
        torch.tensor([True] * 3 + [False] * (n - 3)),
        (1.0, 1.0, 1.0),
        tuple(f"f{k}" for k in range(n)),
    )


def test_a_volume_of_unknown_class_is_paired_with_labelled_ones_of_any() -> None:
    classes = ["a"] * 4 + [None, None]
    plan = choose_pairs([0, 1, 2, 3, 4], [5], classes, PairingConfig(per_unlabelled=5))
    assert set(plan.fixed[plan.kind == "unlabelled"]) == {0, 1, 2, 3, 4}


def test_all_labelled_pairs_and_a_budget_of_unlabelled_ones() -> None:
    plan = choose_pairs([0, 1, 2, 3], [4, 5], [None] * 6, PairingConfig(per_unlabelled=2))
    labelled = plan[plan.kind == "labelled"]
    assert len(labelled) == 6
    assert (labelled.fixed < labelled.moving).all()
    assert plan[plan.kind == "unlabelled"].moving.value_counts().to_dict() == {4: 2, 5: 2}
    assert not plan.duplicated(["fixed", "moving"]).any()


def test_classes_are_paired_within_and_joined_by_bridges() -> None:
    classes = ["a", "a", "b", "b", "c", "a", None]
    plan = choose_pairs([0, 1, 2, 3, 4], [5, 6], classes, PairingConfig(per_unlabelled=1))
    graph = nx.Graph(list(zip(plan.fixed, plan.moving, strict=True)))
    assert nx.is_connected(graph)
    assert {0, 1} >= set(plan[plan.moving == 5].fixed)


def test_a_small_budget_still_leaves_one_piece() -> None:
    plan = choose_pairs(range(30), [], [None] * 30, PairingConfig(labelled=40))
    assert 2 * 30 - 5 <= len(plan) <= 2 * 30
    assert nx.is_connected(nx.Graph(list(zip(plan.fixed, plan.moving, strict=True))))


def test_no_volume_of_many_is_known_much_worse_than_the_others() -> None:
    classes = ["a"] * 150 + ["b"] * 50
    plan = choose_pairs(range(200), [], classes, PairingConfig(labelled=500))
    assert len(plan) == 500 + 2
    graph = nx.Graph(list(zip(plan.fixed, plan.moving, strict=True)))
    for rows in (range(150), range(150, 200)):
        own = graph.subgraph(rows)
        # whoever is taken away, the others stay in one piece
        assert not list(nx.articulation_points(own))
        # variance of a volume's place, in units of that of a pair: one of a chain has ever more
        place = np.diag(np.linalg.pinv(nx.laplacian_matrix(own).toarray().astype(float)))
        assert place.max() < 3 * place.mean()


def test_one_labelled_volume_is_paired_with_every_other() -> None:
    plan = choose_pairs([3], [1, 2], [None] * 4, PairingConfig())
    assert list(zip(plan.fixed, plan.moving, strict=True)) == [(3, 1), (3, 2)]


@pytest.mark.parametrize("rows", [([], [1, 2]), ([3], [])])
def test_nothing_to_pair_is_said(rows: tuple[list[int], list[int]]) -> None:
    with pytest.raises(CohortError, match=r"got \d labelled and \d unlabelled"):
        choose_pairs(*rows, [None] * 4, PairingConfig())


def test_volumes_are_brought_to_the_common_space_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = make_group()
    affines = torch.eye(4).double().repeat(5, 1, 1)
    affines[:, :3, 3] = torch.linspace(-2, 2, 5).double()[:, None]
    at_once, found = [], []
    warp = SpatialTransform.warp_with_labels

    def watched(self: SpatialTransform, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        at_once.append(len(self))
        return warp(self, *given)

    monkeypatch.setattr(SpatialTransform, "warp_with_labels", watched)
    for size in (5, 2):
        monkeypatch.setattr(f"{GROUPWISE}.batch_size", lambda *_, size=size, **__: size)
        found.append(group.in_common_space(affines))
    assert at_once == [5, 2, 2, 1]
    for name in ("images", "labels", "masks"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name))


def test_finished_pairs_are_not_done_again_and_the_rest_comes_out_alike() -> None:
    group = make_group()
    plan = choose_pairs([0, 1, 2], [3, 4], [None] * 5, PairingConfig(per_unlabelled=1))
    keys = group.keys(plan, TINY, "pair")
    whole: dict[str, dict] = {}
    for item in register_plan(group, plan, keys, TINY, set()):
        whole |= item
    assert list(whole) == [*sorted(whole, key=keys.index)]
    assert set(whole) == set(keys)
    resumed: dict[str, dict] = {}
    for item in register_plan(group, plan, keys, TINY, set(keys[:2])):
        resumed |= item
    assert set(resumed) == set(keys[2:])
    for key, item in resumed.items():
        assert torch.equal(item["velocity"], whole[key]["velocity"])


def test_keys_follow_what_a_result_depends_on_and_nothing_else() -> None:
    group = make_group()
    plan = choose_pairs([0, 1, 2], [3], [None] * 4, PairingConfig(per_unlabelled=1))
    keys = group.keys(plan, TINY, "pair")
    assert len(set(keys)) == len(keys)
    assert group.keys(plan, TINY.model_copy(update={"batch_size": 2}), "pair") == keys
    assert group.keys(plan, TINY.model_copy(update={"window": 7}), "pair") != keys
    moved = group.in_common_space(torch.eye(4).double().repeat(5, 1, 1) * 1.01)
    assert not set(moved.keys(plan, TINY, "pair")) & set(keys)


def test_a_folding_or_worsening_pair_is_set_aside_with_its_reason() -> None:
    plan = pd.DataFrame({"fixed": [0, 0, 1], "moving": [1, 2, 2], "kind": ["labelled"] * 3})
    good = {"similarity": 0.8, "dice": 0.7, "folded": 0, "inverse_error_mm": 0.01}
    good |= {"log_jacobian_min": -1.0, "log_jacobian_max": 1.0}
    before = good | {"similarity": 0.5}
    results = [
        {"before": before, "after": good},
        {"before": before, "after": good | {"folded": 3}},
        {"before": before, "after": good | {"similarity": 0.4}},
    ]
    reasons = quality_table(plan, results).set_aside.to_list()
    assert reasons == ["", "folds in 3 voxels", "similarity fell from 0.50000 to 0.40000"]
