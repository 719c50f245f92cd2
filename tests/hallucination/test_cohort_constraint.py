from dataclasses import replace

import pytest
import torch

from dreamorph.hallucination.cohort_constraint import _judge, cohort_constraint
from dreamorph.hallucination.ranges import Outside
from dreamorph.hallucination.statistics import rate_upper_bound
from tests.hallucination.worlds import make_world, velocities, without_label


def test_honest_dreams_pass(world):
    found = cohort_constraint(world.evidence, world.config)
    assert found.passed
    assert found.n == 70


def test_canary_implausible_volume(world):
    """Image and label agree, but the shapes lie three times as far out as any subject's."""
    sources = world.evidence.dreams.source_index.tolist()
    targets = 3 * velocities(len(sources), 1.0, torch.Generator().manual_seed(3))
    found = cohort_constraint(world.with_dreams(world.dream(sources, targets)), world.config)
    assert found.passed is False
    assert found.value > found.threshold


def test_canary_missing_structure(world):
    labels = world.evidence.dreams.labels.clone()
    labels[labels == 2] = 0
    evidence = world.with_dreams(replace(world.evidence.dreams, labels=labels))
    found = cohort_constraint(evidence, world.config)
    assert found.passed is False
    assert found.value == 100


@pytest.fixture(scope="module")
def often_absent():
    """Twelve of 24 subjects never had label 2."""
    return without_label(make_world(subjects=24, each=3), 2, 12)


def test_honest_dreams_pass_where_a_label_is_often_absent(often_absent):
    found = cohort_constraint(often_absent.evidence, often_absent.config)
    assert found.passed
    assert found.value < 25
    # every subject counts, with what it has
    assert "n=24 subjects" in found.detail


def test_canary_a_structure_lost_where_others_never_had_it(often_absent):
    labels = often_absent.evidence.dreams.labels.clone()
    labels[labels == 2] = 0
    evidence = often_absent.with_dreams(replace(often_absent.evidence.dreams, labels=labels))
    found = cohort_constraint(evidence, often_absent.config)
    assert found.passed is False
    assert found.value > 50


def test_canary_a_structure_gained_where_the_source_never_had_it(often_absent):
    """Of a size that no subject's is."""
    dreams = often_absent.evidence.dreams
    labels = dreams.labels.clone()
    labels[dreams.source_index < 12, :, 2:20, 2:20, 2:20] = 2
    evidence = often_absent.with_dreams(replace(dreams, labels=labels))
    assert cohort_constraint(evidence, often_absent.config).passed is False


def test_canary_structures_too_far_apart(world):
    labels = world.evidence.dreams.labels.clone()
    second = (labels == 2).roll(4, 3)
    labels[labels == 2] = 0
    labels[second] = 2
    evidence = world.with_dreams(replace(world.evidence.dreams, labels=labels))
    found = cohort_constraint(evidence, world.config)
    assert found.passed is False
    assert "distance_1_2" in found.detail


def test_fewer_than_ten_real_cases_are_not_assessable():
    world = make_world(subjects=6, each=2)
    found = cohort_constraint(world.evidence, world.config)
    assert found.passed is None
    assert found.value >= 0
    assert "6 real labelled cases" in found.detail


def test_classes_are_judged_apart(world):
    """Fourteen cases in two classes are seven each: too few."""
    reals = world.evidence.reals
    classes = ["a" if i % 2 else "b" for i in range(14)]
    found = cohort_constraint(
        replace(world.evidence, reals=replace(reals, classes=classes)), world.config
    )
    assert found.passed is None
    assert "class a" in found.detail


def of_classes(world, count):
    """Ten subjects in each of so many classes."""
    n = 10 * count
    names = [f"s{i}" for i in range(n)]
    rows = [i % world.evidence.reals.images.shape[0] for i in range(n)]
    return replace(
        world.evidence.reals,
        images=world.evidence.reals.images[rows],
        labels=world.evidence.reals.labels[rows],
        masks=world.evidence.reals.masks[rows],
        cases=names,
        subjects=names,
        classes=[f"c{i % count}" for i in range(n)],
    )


def test_canary_one_class_of_several_over_its_bound(world):
    """A gate is not corrected for its parts: that would let each of them pass above its bound."""
    bound = rate_upper_bound(2, 10, 0.95)
    shares = enumerate((0.55, 0.1, 0.1))
    parts = {f"c{k}": Outside(share, 0.2, 10, bound, 30) for k, share in shares}
    found = _judge(parts, of_classes(world, 3), 90, world.config, "")
    assert bound == pytest.approx(0.507, abs=1e-3)
    assert found.passed is False
    assert found.value == pytest.approx(55)
    assert found.threshold == pytest.approx(100 * bound)


def test_canary_a_bound_that_could_hardly_fail(world):
    bound = rate_upper_bound(7, 10, 0.95)
    assert bound > 0.9
    reals = of_classes(world, 1)
    for share, passed in ((0.1, None), (0.9, None), (0.95, False)):
        parts = {"c0": Outside(share, 0.7, 10, bound, 30)}
        assert _judge(parts, reals, 30, world.config, "").passed is passed


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_canary_a_share_of_a_handful_of_dreams(world, share):
    """Ten of each class, and twenty in all."""
    for judged, assessable in (([19], False), ([20], True), ([9, 40], False), ([10, 10], True)):
        parts = {f"c{k}": Outside(share, 0.1, 10, 0.4, n) for k, n in enumerate(judged)}
        found = _judge(parts, of_classes(world, len(judged)), sum(judged), world.config, "")
        assert found.passed is ((share == 0) if assessable else None)


def test_a_handful_of_dreams_is_not_assessable(world):
    found = cohort_constraint(world.few(19).evidence, world.config)
    assert found.passed is None
    assert "19 dreams, of one class 19; 20 needed, 10 of each class" in found.detail
