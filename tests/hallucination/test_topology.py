from dataclasses import replace

import numpy as np
import pytest

from dreamorph.hallucination.topology import (
    lost_components,
    same_topology,
    topology,
    topology_of_source,
)
from dreamorph.spatial import points_like
from tests.hallucination.worlds import World, with_islands


def spoiled(few: World, change) -> object:
    """The check's finding after `change(labels)` of one dream, in place."""
    labels = few.evidence.dreams.labels.clone()
    change(labels[5, 0])
    evidence = few.with_dreams(replace(few.evidence.dreams, labels=labels))
    return topology(evidence, few.config)


def middle(labels, value):
    return [int(axis.float().mean().round()) for axis in (labels == value).nonzero(as_tuple=True)]


def tear(labels):
    """A gap one voxel thick through label 1."""
    x = middle(labels, 1)[0]
    labels[x][labels[x] == 1] = 0


def hole(labels):
    x, y, z = middle(labels, 1)
    labels[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 0


def tunnel(labels):
    x, y, _ = middle(labels, 1)
    labels[x - 1 : x + 1, y - 1 : y + 1] = 0


def island(labels):
    labels[1:4, 1:4, 4:7] = 1


def vanish(labels):
    labels[labels == 2] = 0


def drift_apart(labels):
    """The two labels, each still a ball, no longer touch."""
    moved = (labels == 2).roll(5, 1)
    labels[labels == 2] = 0
    labels[moved] = 2


def test_honest_dreams_pass(few):
    found = topology(few.evidence, few.config)
    assert found.passed
    assert found.n == 8


@pytest.mark.parametrize("change", [tear, hole, tunnel, island, vanish, drift_apart])
def test_canaries(few, change):
    found = spoiled(few, change)
    assert found.passed is False
    assert found.value == pytest.approx(100 / 8)


def test_canary_merged_labels():
    """Two islands of one label grow together."""
    labels = np.zeros((20, 30, 20), np.uint8)
    labels[5:15, 3:12, 5:15] = labels[5:15, 16:26, 5:15] = 1
    source = topology_of_source(labels, 1, 0.7)
    assert source.betti == ((2, 0, 0),)
    assert same_topology(labels, source, 1)
    labels[8:11, 12:16, 8:11] = 1
    assert not same_topology(labels, source, 1)


def test_one_voxel_noise_is_ignored_on_both_sides():
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:12, 4:12, 4:12] = 1
    source = topology_of_source(labels, 1, 0.7)
    labels[7, 7, 7] = 0
    labels[1, 1, 1] = 1
    assert same_topology(labels, source, 1)
    assert not same_topology(labels, topology_of_source(labels * 0 + 1, 1, 0), 1)


def test_thin_labels_are_counted_exactly():
    """A vessel one voxel wide would vanish in the smoothing, and a cut in it with it."""
    labels = np.zeros((16, 16, 30), np.uint8)
    labels[8, 8, 3:27] = 1
    source = topology_of_source(labels, 1, 0.7)
    assert source.sigmas == (0.0,)
    labels[8, 8, 15] = 0
    assert not same_topology(labels, source, 1)


def ball(radius, size=24):
    grid = np.indices((size,) * 3) - (size - 1) / 2
    return ((grid**2).sum(0) <= radius**2).astype(np.uint8)


def test_resampling_alone_does_not_change_a_solid_label():
    source = topology_of_source(ball(7), 1, 0.7, controls=12)
    assert source.lowest == source.highest == ((1, 0, 0),)
    assert not source.uncertain


def test_a_shell_one_voxel_thin_may_leak_as_it_does_when_resampled():
    """Its cavity comes and goes with the grid: not held against a dream. More islands are."""
    shell = ball(8) - ball(7)
    source = topology_of_source(shell, 1, 0.7, controls=12)
    assert source.uncertain
    assert source.lowest[0] <= source.betti[0] <= source.highest[0]
    pieces = source.highest[0][0]
    grid = np.zeros((24, 24, 24 + 4 * (pieces + 1)), np.uint8)
    grid[:, :, :24] = shell
    for k in range(pieces + 1):
        grid[2:5, 2:5, 24 + 4 * k : 27 + 4 * k] = 1
    assert not same_topology(grid, source, 1)


def test_the_controls_are_always_the_same():
    shell = ball(8) - ball(7)
    assert topology_of_source(shell, 1, 0.7, 4) == topology_of_source(shell, 1, 0.7, 4)


CUBE, SATELLITE = (2, 2, 2), (1, 2, 2)


@pytest.mark.parametrize("size", [CUBE, SATELLITE])
def test_canary_a_small_island_is_lost(few, size):
    """Smoothing takes it away on both sides, so Betti numbers do not see it."""
    dotted = with_islands(few, size)
    config = few.config.model_copy(update={"topology_controls": 0})
    assert topology(dotted.evidence, config).passed
    dreams = dotted.evidence.dreams
    row, labels = int(dreams.source_index[5]), dreams.labels.clone()
    assert labels[5, 0, :6, :6, :9].any()
    labels[5, 0, :6, :6, :9] = 0
    known = topology_of_source(dotted.evidence.reals.labels[row, 0].numpy(), 2, 0.7)
    assert same_topology(labels[5, 0].numpy(), known, 2)
    found = topology(dotted.with_dreams(replace(dreams, labels=labels)), config)
    assert found.passed is False
    assert found.value == pytest.approx(100 / 8)
    assert "1 of them lost a component" in found.detail


def lost(labels, source, n_labels=1):
    still = points_like(labels.shape, (1.0,) * 3)[0]
    return lost_components(labels, still, (1.0,) * 3, source)


def test_what_resampling_alone_loses_may_be_lost():
    """A single voxel is gone from most resamplings, an island of three voxels a side from none."""
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[4:14, 4:14, 4:14] = labels[17:20, 17:20, 17:20] = labels[20, 4, 4] = 1
    poorer = labels.copy()
    poorer[20, 4, 4] = 0
    assert lost(poorer, topology_of_source(labels, 1, 0.7, controls=0)) == 1
    assert lost(poorer, topology_of_source(labels, 1, 0.7, controls=12)) == 0
    poorer[17:20, 17:20, 17:20] = 0
    assert lost(poorer, topology_of_source(labels, 1, 0.7, controls=12)) == 1


def test_an_island_that_leaves_the_grid_is_lost():
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[8:18, 8:18, 8:18] = labels[:2, 10:12, 10:12] = 1
    source = topology_of_source(labels, 1, 0.7)
    points = points_like(labels.shape, (1.0,) * 3)[0].clone()
    points[0] += 3
    moved = np.roll(labels, -3, axis=0)
    moved[-3:] = 0
    assert same_topology(moved, source, 1)
    assert lost_components(moved, points, (1.0,) * 3, source) == 1
