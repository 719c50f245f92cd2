from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamorph.errors import DreamError
from dreamorph.hallucination.jacobian_envelope import (
    fit_envelope,
    inside_envelope,
    jacobian_envelope,
    log_ratios,
)
from tests.hallucination.worlds import make_dreams, make_world, velocities, without_label


def moved(world, factor):
    """Dreams whose targets lie `factor` times farther out than real subjects."""
    sources = world.evidence.dreams.source_index.tolist()
    targets = factor * velocities(len(sources), 1.0, torch.Generator().manual_seed(9))
    return world.with_dreams(world.dream(sources, targets))


def test_honest_dreams_pass(world):
    found = jacobian_envelope(world.evidence, world.config)
    assert found.passed
    assert 0 < found.threshold < 90


def test_honest_dreams_pass_where_a_label_is_rare():
    """Volumes of a label that 34 of 40 lack are held against those of the six who have it."""
    rare = without_label(make_world(subjects=40, each=2), 2, 34)
    assert jacobian_envelope(rare.evidence, rare.config).passed
    labels = rare.evidence.dreams.labels.clone()
    labels[:, :, 6:9, 6:9, 6:9] = 2  # out of nothing, in most
    swollen = rare.with_dreams(replace(rare.evidence.dreams, labels=labels))
    assert jacobian_envelope(swollen, rare.config).passed is False


def test_canary_impossible_growth(world):
    found = jacobian_envelope(moved(world, 3.0), world.config)
    assert found.passed is False
    assert found.value > found.threshold


def test_canary_a_label_that_swells_without_the_warp(world):
    """The Jacobian is honest, the label is not its source's."""
    labels = world.evidence.dreams.labels.clone()
    labels[:, :, 6:18, 6:22, 6:18] = 1
    evidence = world.with_dreams(replace(world.evidence.dreams, labels=labels))
    assert jacobian_envelope(evidence, world.config).passed is False


def test_canary_a_vanished_label(world):
    labels = world.evidence.dreams.labels.clone()
    labels[labels == 2] = 0
    evidence = world.with_dreams(replace(world.evidence.dreams, labels=labels))
    assert jacobian_envelope(evidence, world.config).passed is False


def test_canary_an_empty_mask_hides_nothing(world):
    dreams = world.evidence.dreams
    evidence = world.with_dreams(replace(dreams, masks=torch.zeros_like(dreams.masks)))
    assert jacobian_envelope(evidence, world.config).passed is False


def test_gentle_dreams_are_no_impossible_growth(world):
    sources = world.evidence.dreams.source_index.tolist()
    still = make_dreams(
        world.evidence.reals, sources, replace(world.evidence.dreams.transforms, velocity=None)
    )
    assert jacobian_envelope(world.with_dreams(still), world.config).passed


def of_subjects(world, count):
    """Evidence with the pairs of so many subjects only."""
    pairs, names = world.evidence.pairs, [f"s{k:02d}" for k in range(count)]
    keep = pairs["fixed_subject"].isin(names) & pairs["moving_subject"].isin(names)
    return replace(world.evidence, pairs=pairs[keep])


def test_few_subjects_are_not_assessable(world):
    found = jacobian_envelope(of_subjects(world, 3), world.config)
    assert found.passed is None
    assert "3 real subjects" in found.detail


def test_canary_a_bound_that_could_hardly_fail(world):
    """At this confidence four subjects leave the share of dreams next to no limit."""
    evidence = of_subjects(world, 4)
    assert jacobian_envelope(evidence, world.config).passed
    config = world.config.model_copy(update={"confidence": 0.9995})
    found = jacobian_envelope(evidence, config)
    assert "n=4, bound 94.9 %" in found.detail
    assert found.passed is None
    assert (
        jacobian_envelope(replace(evidence, dreams=moved(world, 3.0).dreams), config).passed
        is False
    )


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_canary_a_share_of_a_handful_of_dreams(world, factor):
    """However mild or wild they are, one of a hundred that were drawn says nothing."""
    dreams = moved(world, factor).dreams
    few, enough = (world.with_dreams(dreams.select(slice(n))) for n in (19, 20))
    found = jacobian_envelope(few, world.config)
    assert found.passed is None
    assert "19 dreams, 20 needed" in found.detail
    assert jacobian_envelope(enough, world.config).passed is (factor == 1)


def test_envelope_is_the_full_range(world):
    envelope = fit_envelope(world.evidence.reals, world.evidence.pairs)
    assert envelope.log_jacobian[0] == world.evidence.pairs["log_jacobian_min"].min()
    assert inside_envelope(envelope, *envelope.log_jacobian, np.zeros(2))
    assert not inside_envelope(envelope, envelope.log_jacobian[0] - 0.01, 0.0, np.zeros(2))
    assert not inside_envelope(envelope, 0.0, 0.0, np.array([0.0, np.nan]))


@pytest.mark.filterwarnings("error")
def test_a_label_of_one_case_alone_keeps_its_size(world):
    reals = world.evidence.reals
    labels = reals.labels.clone()
    labels[1:][labels[1:] == 2] = 0
    for cases in (2, len(reals.cases)):
        some = replace(
            reals,
            images=reals.images[:cases],
            labels=labels[:cases],
            masks=reals.masks[:cases],
            cases=reals.cases[:cases],
            subjects=reals.subjects[:cases],
            classes=reals.classes[:cases],
        )
        envelope = fit_envelope(some, world.evidence.pairs)
        assert envelope.log_ratio[:, 1].tolist() == [0.0, 0.0]
        assert inside_envelope(envelope, 0.0, 0.0, np.zeros(2))
        assert not inside_envelope(envelope, 0.0, 0.0, np.array([0.0, 0.01]))


def test_folded_pairs_do_not_widen_the_envelope(world):
    pairs = world.evidence.pairs.copy()
    pairs.loc[0, "log_jacobian_min"] = float("-inf")
    envelope = fit_envelope(world.evidence.reals, pairs)
    assert np.isfinite(envelope.log_jacobian).all()


def test_no_pair_at_all_is_one_clear_error(world):
    with pytest.raises(DreamError, match="at least one registered real pair"):
        fit_envelope(world.evidence.reals, world.evidence.pairs.iloc[:0])


def test_log_ratios():
    found = log_ratios(np.array([2.0, 0, 1, 0]), np.array([1.0, 0, 0, 1]))
    assert found[:2] == pytest.approx([np.log(2), 0])
    assert np.isnan(found[2:]).all()
