import numpy as np
import pytest

from dreamorph.hallucination.components import components_of, shown_components


def centres(shape, spacing):
    """Points of a dream that reads every voxel where it is."""
    column = (len(shape), *[1] * len(shape))
    middle = (np.array(shape) - 1) / 2
    return (np.indices(shape) - middle.reshape(column)) * np.array(spacing).reshape(column)


def two_islands(shape=(9, 9, 9)):
    labels = np.zeros(shape, np.uint8)
    labels[(slice(1, 4),) * len(shape)] = 1
    labels[(slice(6, 8),) * len(shape)] = 1
    labels[(slice(4, 6), *[slice(0, 2)] * (len(shape) - 1))] = 2
    return labels


@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 9, 9), (1, 1, 1)), ((9, 11, 10), (1, 3, 0.5)), ((9, 10), (2, 1))]
)
def test_every_component_is_shown_by_the_source_itself(shape, spacing):
    labels = two_islands(shape)
    found = components_of(labels, 2)
    assert found.label_of.tolist() == [0, 1, 1, 2]
    shown = shown_components(labels, centres(shape, spacing), spacing, found)
    assert shown.all()
    labels[labels == 2] = 0
    shown = shown_components(labels, centres(shape, spacing), spacing, found)
    assert shown.tolist() == [True, True, True, False]
    labels[(slice(6, 8),) * len(shape)] = 0
    shown = shown_components(labels, centres(shape, spacing), spacing, found)
    assert shown.tolist() == [True, True, False, False]


def test_parts_that_touch_at_a_corner_are_one_component():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:3, 1:3, 1:3] = labels[3:5, 3:5, 3:5] = 1
    assert len(components_of(labels, 1).label_of) == 2


def test_a_voxel_shows_what_it_reads_not_what_lies_where_it_is():
    labels = two_islands()
    found = components_of(labels, 2)
    points = centres(labels.shape, (1, 1, 1))
    points[:, 6:8, 6:8, 6:8] = points[:, 2:3, 2:3, 2:3]
    shown = shown_components(labels, points, (1, 1, 1), found)
    assert shown.tolist() == [True, True, False, True]


def test_any_corner_of_the_cell_tells_the_component():
    """A label of seven corners wins where the nearest voxel has none."""
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    labels[3, 3, 3] = 0
    labels[7, 7, 7] = 1
    found = components_of(labels, 1)
    dream = np.zeros_like(labels)
    dream[0, 0, 0] = 1
    points = np.full((3, 9, 9, 9), 2.55 - 4)
    assert shown_components(dream, points, (1, 1, 1), found).tolist() == [True, True, False]


def test_nothing_has_no_component():
    labels = np.zeros((4, 4, 4), np.uint8)
    found = components_of(labels, 2)
    assert shown_components(labels, centres((4, 4, 4), (1, 1, 1)), (1, 1, 1), found).tolist() == [
        True
    ]
    dream = np.full_like(labels, 3)  # of no source: provenance says so
    assert shown_components(dream, centres((4, 4, 4), (1, 1, 1)), (1, 1, 1), found).all()
