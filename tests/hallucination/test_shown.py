import numpy as np
import pytest
import torch

from dreamorph.hallucination import AuditConfig, draw_shown

CONFIG = AuditConfig()


def labelled(*held):
    """Volumes that hold so many of the labels 1, 2, ...: one set of labels for each."""
    labels = torch.zeros(len(held), 1, 2, 2, 2, dtype=torch.uint8)
    for row, own in enumerate(held):
        for k in own:
            labels[row, 0, k % 2, k // 2 % 2, 0] = k
    return labels


def names(n):
    return [f"s{k:03d}" for k in range(n)]


def test_few_volumes_are_all_shown_in_their_order():
    assert draw_shown(labelled(*[{1}] * 9), names(9), 1, 24, CONFIG) == list(range(9))


def test_the_draw_is_random_and_depends_on_the_seed_alone():
    """Names in order are often sites in order: the first 24 of 60 would be one site."""
    labels = labelled(*[{1}] * 60)
    first = draw_shown(labels, names(60), 1, 24, CONFIG)
    assert len(set(first)) == 24
    assert first == sorted(first) == draw_shown(labels, names(60), 1, 24, CONFIG)
    assert np.histogram(first, [0, 20, 40, 60])[0].min() >= 4
    assert first != draw_shown(labels, names(60), 1, 24, AuditConfig(seed=1))


@pytest.mark.parametrize(("rare", "shown"), [(8, 6), (4, 4), (0, 0)])
def test_subjects_with_a_rare_label_are_shown_as_far_as_there_are(rare, shown):
    """Of a hundred: at random one or two of eight would be."""
    labels = labelled(*[{1, 2}] * rare, *[{1}] * (100 - rare))
    rows = draw_shown(labels, names(100), 2, 24, CONFIG)
    assert len(rows) == 24
    assert sum(row < rare for row in rows) >= shown


def test_subjects_without_a_label_are_shown_too():
    labels = labelled(*[set()] * 7, *[{1}] * 93)
    rows = draw_shown(labels, names(100), 1, 24, CONFIG)
    assert sum(row < 7 for row in rows) >= 6
    assert sum(row >= 7 for row in rows) >= 6


def test_no_subject_comes_twice_before_every_other_has_come():
    subjects = [f"s{k // 2:03d}" for k in range(60)]
    rows = draw_shown(labelled(*[{1}] * 60), subjects, 1, 24, CONFIG)
    assert len({subjects[row] for row in rows}) == 24
    assert 0 < sum(row % 2 for row in rows) < 24
    rows = draw_shown(labelled(*[{1}] * 60), subjects, 1, 40, CONFIG)
    assert len({subjects[row] for row in rows}) == 30


def test_more_labels_than_there_is_room_for_keep_the_number():
    labels = labelled(*[{k % 3 + 1} for k in range(60)])
    assert len(draw_shown(labels, names(60), 3, 10, CONFIG)) == 10
