from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamorph.hallucination.two_sample import _auc, exchanged, grouped_auc, two_sample
from tests.hallucination.worlds import make_dreams, make_world, velocities


def test_honest_dreams_pass(world):
    found = two_sample(world.evidence, world.config)
    assert found.passed
    assert "80 % power" in found.detail


@pytest.mark.parametrize("factor", [2.5])
def test_canary_far_out_dreams(world, factor):
    sources = world.evidence.dreams.source_index.tolist()
    targets = factor * velocities(len(sources), 1.0, torch.Generator().manual_seed(3))
    found = two_sample(world.with_dreams(world.dream(sources, targets)), world.config)
    assert found.passed is False
    assert found.value > found.threshold


def test_canary_all_dreams_share_a_brightness_of_their_own(world):
    dreams = world.evidence.dreams
    images = dreams.images + 0.15 * dreams.masks
    found = two_sample(world.with_dreams(replace(dreams, images=images)), world.config)
    assert found.passed is False


def test_canary_dreams_exaggerated_to_both_sides(world):
    """Some brighter and some darker than any real one: only the squares tell them apart."""
    dreams = world.evidence.dreams
    sides = torch.tensor([-1.0, 1.0, 0.0, -1.0, 1.0]).repeat(14)[:, None, None, None, None]
    images = dreams.images + 0.3 * sides * dreams.masks
    found = two_sample(world.with_dreams(replace(dreams, images=images)), world.config)
    assert found.passed is False


def test_ragged_labels_do_not_give_honest_dreams_away(world):
    """One interpolation smooths them, that of a dream; the real ones are interpolated once too."""
    reals = world.evidence.reals
    holes = torch.rand(reals.labels.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    reals = replace(reals, labels=reals.labels.where(~holes, 0))
    maps = world.evidence.dreams.transforms
    dreams = make_dreams(reals, world.evidence.dreams.source_index.tolist(), maps)
    assert two_sample(replace(world.evidence, reals=reals, dreams=dreams), world.config).passed


def test_few_subjects_are_not_assessable():
    world = make_world(subjects=3, each=3)
    assert two_sample(world.evidence, world.config).passed is None


def test_little_power_is_not_a_pass(world):
    config = world.config.model_copy(update={"two_sample_detectable_auc": 0.55})
    found = two_sample(world.evidence, config)
    assert found.passed is None
    assert found.detail.startswith("underpowered")


def test_folds_are_grouped():
    """Groups that each lie somewhere else, half of them real: nothing to learn across groups.

    With ungrouped folds the same data would look almost separable.
    """
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 8).astype(str)
    truth = np.repeat(np.arange(20) % 2, 8)
    table = np.repeat(generator.normal(size=(20, 30)), 8, axis=0)
    table = table + 0.05 * generator.normal(size=(160, 30))
    grouped = grouped_auc(table, truth[:, None], groups)[0]
    ungrouped = grouped_auc(table, truth[:, None], np.arange(160).astype(str))[0]
    assert ungrouped > 0.95
    assert grouped < 0.8


def test_auc_by_hand():
    scores = np.array([[0.1], [0.4], [0.35], [0.8]])
    assert _auc(scores, np.array([[0], [0], [1], [1]]))[0] == pytest.approx(0.75)
    assert np.isnan(_auc(scores, np.ones((4, 1), int))[0])


def test_exchange_keeps_the_counts_of_each_group():
    groups = np.repeat(["a", "b"], [3, 5])
    truth = np.array([0, 1, 1, 0, 0, 1, 1, 1])
    shuffled = exchanged(truth, groups, np.random.default_rng(1))
    for name in "ab":
        assert shuffled[groups == name].sum() == truth[groups == name].sum()


@pytest.mark.slow
def test_false_alarms_are_rare():
    """Honest worlds fail about one time in twenty; eight of them at most twice."""
    alarms = 0
    for seed in range(8):
        small = make_world(subjects=8, each=5, seed=seed)
        alarms += two_sample(small.evidence, small.config).passed is False
    assert alarms <= 2
