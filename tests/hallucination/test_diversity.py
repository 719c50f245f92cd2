import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.hallucination.diversity import (
    _aligned_limit,
    _expected_coverage,
    _span,
    diversity,
)
from tests.hallucination.worlds import make_dreams, make_world, velocities, warps, without_label


def test_honest_dreams_pass(world):
    found = diversity(world.evidence, world.config)
    assert found.passed
    assert "coverage" in found.detail


@pytest.fixture(scope="module")
def often_absent():
    """Twelve of 24 subjects never had label 2."""
    return without_label(make_world(subjects=24, each=3), 2, 12)


def test_honest_dreams_pass_where_a_label_is_often_absent(often_absent):
    """Labels that one of two subjects lacks do not make the two differ in shape."""
    assert diversity(often_absent.evidence, often_absent.config).passed


def test_canary_copies_where_a_label_is_often_absent(often_absent):
    sources = often_absent.evidence.dreams.source_index.tolist()
    still = replace(often_absent.evidence.dreams.transforms, velocity=None)
    dreams = make_dreams(often_absent.evidence.reals, sources, still)
    found = diversity(often_absent.with_dreams(dreams), often_absent.config)
    assert found.passed is False
    assert "one source 1.000" in found.detail


def test_canary_collapsed_prior(world):
    """Every source is moved to one and the same shape."""
    sources = world.evidence.dreams.source_index.tolist()
    target = velocities(1, 1.0, torch.Generator().manual_seed(5)).expand(
        len(sources), -1, -1, -1, -1
    )
    assert diversity(world.with_dreams(world.dream(sources, target)), world.config).passed is False


def test_canary_dreams_that_are_copies_of_their_sources(world):
    sources = world.evidence.dreams.source_index.tolist()
    still = replace(world.evidence.dreams.transforms, velocity=None)
    dreams = make_dreams(world.evidence.reals, sources, still)
    found = diversity(world.with_dreams(dreams), world.config)
    assert found.passed is False
    assert "one source" in found.detail


def test_canary_copies_are_caught_where_real_subjects_are_compared_without_their_pose(world):
    pairs = world.evidence.pairs.assign(dice_affine=0.8)
    evidence = replace(world.evidence, pairs=pairs)
    sources = evidence.dreams.source_index.tolist()
    still = replace(evidence.dreams.transforms, velocity=None)
    copies = replace(evidence, dreams=make_dreams(evidence.reals, sources, still))
    assert diversity(evidence, world.config).passed
    found = diversity(copies, world.config)
    assert found.passed is False
    assert "one source 1.000 (rule <= 0.900)" in found.detail


@pytest.mark.parametrize("aligned", [0.9, 0.93, 0.99])
def test_canary_copies_are_caught_where_real_subjects_overlap_nearly_as_much(world, aligned):
    """A margin on top of the real overlap would allow any overlap there."""
    evidence = replace(world.evidence, pairs=world.evidence.pairs.assign(dice_affine=aligned))
    sources = evidence.dreams.source_index.tolist()
    still = replace(evidence.dreams.transforms, velocity=None)
    copies = replace(evidence, dreams=make_dreams(evidence.reals, sources, still))
    assert diversity(evidence, world.config).passed
    found = diversity(copies, world.config)
    assert found.passed is False
    assert f"one source 1.000 (rule <= {(1 + aligned) / 2:.3f})" in found.detail


def test_canary_dreams_that_lost_what_real_subjects_have_in_common(world):
    dreams = world.evidence.dreams
    empty = replace(dreams, labels=torch.zeros_like(dreams.labels))
    found = diversity(world.with_dreams(empty), world.config)
    assert found.passed is False
    assert "one source nan" in found.detail


def test_the_overlap_without_pose_leaves_each_subject_out_once():
    pairs = pd.DataFrame(
        [("a", "b", 0.9), ("a", "c", 0.5), ("b", "c", 0.4), ("a", "a", 1.0), ("b", "d", None)],
        columns=["fixed_subject", "moving_subject", "dice_affine"],
    )
    assert _aligned_limit(pairs) == pytest.approx(0.9)
    assert np.isnan(_aligned_limit(pairs.drop(columns="dice_affine")))


def test_canary_copies_without_labels(world):
    reals = replace(
        world.evidence.reals, n_labels=0, labels=torch.zeros_like(world.evidence.reals.labels)
    )
    sources = world.evidence.dreams.source_index.tolist()
    still = warps(torch.zeros_like(world.evidence.dreams.transforms.velocity))
    evidence = replace(world.evidence, reals=reals, dreams=make_dreams(reals, sources, still))
    found = diversity(evidence, world.config)
    assert found.passed is False
    assert "spread 0.000" in found.detail
    honest = make_dreams(reals, sources, world.evidence.dreams.transforms)
    assert diversity(replace(evidence, dreams=honest), world.config).passed


def broken(found):
    """The parts that do not keep their rule, by name."""
    parts = re.findall(r"([^;]+?) ([\d.]+|nan) \(rule ([<>]=) ([\d.]+)\)", found.detail)
    return [
        name.strip()
        for name, value, sign, limit in parts
        if not (float(value) <= float(limit) if sign == "<=" else float(value) >= float(limit))
    ]


def test_canary_dreams_that_all_look_alike(world):
    """One picture for all, though labels and warps are as manifold as they should be."""
    dreams = world.evidence.dreams
    same = dreams.images[:1].expand_as(dreams.images).clone()
    found = diversity(world.with_dreams(replace(dreams, images=same)), world.config)
    assert found.passed is False
    assert broken(found) == ["MS-SSIM"]


def test_canary_dreams_nowhere_near_a_real_subject(world):
    """As unlike one another as can be, but of a kind of their own."""
    dreams = world.evidence.dreams
    labels = dreams.labels.roll(6, 2)
    found = diversity(world.with_dreams(replace(dreams, labels=labels)), world.config)
    assert found.passed is False
    assert broken(found) == ["coverage"]


@pytest.mark.parametrize("size", [0.1, 0.01, 0.001])
def test_canary_warps_that_do_next_to_nothing(world, size):
    """Relative to their size they differ as honest ones do."""
    reals = replace(
        world.evidence.reals, n_labels=0, labels=torch.zeros_like(world.evidence.reals.labels)
    )
    maps = world.evidence.dreams.transforms
    faint = warps(size * maps.velocity)
    sources = world.evidence.dreams.source_index.tolist()
    evidence = replace(world.evidence, reals=reals, dreams=make_dreams(reals, sources, faint))
    found = diversity(evidence, world.config)
    assert found.passed is False
    parts = dict(re.findall(r"(\w+) ([\d.]+) \(rule", found.detail))
    assert float(parts["spread"]) > world.config.diversity_min_spread
    assert float(parts["strength"]) < 3 * size


def test_pairs_of_two_subjects_alone_say_nothing_of_strength(world):
    """Without either of them no pair is left."""
    pairs = world.evidence.pairs
    two = pairs[pairs["fixed_subject"].isin(["s00", "s01"])]
    two = two[two["moving_subject"].isin(["s00", "s01"])]
    found = diversity(replace(world.evidence, pairs=two), world.config)
    assert found.passed is None
    assert "too few registered pairs" in found.detail


def test_canary_one_source_only_in_all_dreams(world):
    maps = world.evidence.dreams.transforms
    dreams = make_dreams(world.evidence.reals, [0] * 8, maps[:8])
    assert diversity(world.with_dreams(dreams), world.config).passed is None


def test_small_pools_are_not_assessable():
    world = make_world(subjects=3, each=1)
    assert diversity(world.evidence, world.config).passed is None


def test_small_structures_in_binary_volumes_are_compared(world):
    """With under half a percent of the voxels both percentiles of the brightness are alike."""
    images = torch.zeros_like(world.evidence.reals.images)
    images[:, :, 12, 12:14, 12] = 1
    assert _span(replace(world.evidence.reals, images=images)) == 1
    assert _span(replace(world.evidence.reals, images=0 * images)) == 0


def test_expected_coverage_by_hand():
    # one real neighbour, one dream: an even chance which is nearer
    assert _expected_coverage(1, 1, 1) == pytest.approx(0.5)
    assert _expected_coverage(10, 0, 3) == pytest.approx(0.0)
    assert _expected_coverage(10, 10**6, 3) == pytest.approx(1.0)
