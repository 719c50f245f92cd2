"""Known answers, derived by hand from a few voxels."""

import math

import numpy as np
import pytest

from dreamorph.evaluation import label_agreement

SHAPE = (12, 12, 12)
SPACING = (1.0, 2.0, 3.0)


def box(*ranges: tuple[int, int], shape=SHAPE) -> np.ndarray:
    volume = np.zeros(shape, dtype=bool)
    volume[tuple(slice(*r) for r in ranges)] = True
    return volume


def voxel(*index: int) -> np.ndarray:
    return box(*((i, i + 1) for i in index))


def test_equal_structures_agree_fully():
    cube = box((3, 7), (3, 7), (3, 7))
    found = label_agreement(cube, cube, SPACING)
    assert (found.dice, found.hd95_mm, found.surface_dice) == (1.0, 0.0, 1.0)
    assert found.volume_ml == found.reference_ml == pytest.approx(64 * 6 / 1000)


@pytest.mark.parametrize(("axis", "distance_mm"), [(0, 3.0), (1, 6.0), (2, 9.0)])
def test_two_voxels_three_apart(axis, distance_mm):
    """One boundary voxel each: every percentile of the distance is the distance, in mm."""
    other = [4, 4, 4]
    other[axis] += 3
    found = label_agreement(voxel(4, 4, 4), voxel(*other), SPACING)
    assert found.dice == 0
    assert found.hd95_mm == pytest.approx(distance_mm)
    assert found.surface_dice == 0
    near = label_agreement(voxel(4, 4, 4), voxel(*other), SPACING, tolerance_mm=distance_mm)
    assert near.surface_dice == 1


def test_half_of_a_box():
    """Of 4 voxels in a row the prediction has 2: Dice 2*2 / (2 + 4); the last is 2 away."""
    found = label_agreement(
        box((4, 6), (4, 5), (4, 5)), box((4, 8), (4, 5), (4, 5)), (1.5, 1.0, 1.0)
    )
    assert found.dice == pytest.approx(2 / 3)
    # Distances of the reference's voxels to the prediction: 0, 0, 1.5, 3 mm. Their 95th
    # percentile, linear between ranks: 1.5 + 0.85 * 1.5.
    assert found.hd95_mm == pytest.approx(1.5 + 0.85 * 1.5)
    assert found.volume_ml == pytest.approx(2 * 1.5 / 1000)
    assert found.reference_ml == pytest.approx(4 * 1.5 / 1000)


def test_tolerance_is_in_mm_not_voxels():
    """A slab moved by one voxel along the axis of 3 mm spacing is 3 mm off, not 1.

    Then two of its faces disagree, 288 mm2 each of 1440 mm2 (edges are cut off a little).
    """
    one, two = box((0, 12), (0, 12), (4, 8)), box((0, 12), (0, 12), (5, 9))
    tight = label_agreement(one, two, SPACING, tolerance_mm=2.9).surface_dice
    loose = label_agreement(one, two, SPACING, tolerance_mm=3.1).surface_dice
    assert tight == pytest.approx(1 - 2 * 288 / 1440, abs=0.05)
    assert loose == 1


def test_symmetric():
    one, two = box((2, 7), (3, 8), (3, 8)), box((4, 9), (3, 9), (2, 8))
    there, back = label_agreement(one, two, SPACING), label_agreement(two, one, SPACING)
    assert there.dice == back.dice
    assert there.hd95_mm == pytest.approx(back.hd95_mm)
    assert there.surface_dice == pytest.approx(back.surface_dice)


def test_position_in_the_volume_does_not_matter():
    """Also at the border, where a surface has to close."""
    inner = label_agreement(
        box((4, 7), (4, 7), (4, 7)), box((5, 8), (4, 7), (4, 7)), SPACING, tolerance_mm=0.5
    )
    corner = label_agreement(
        box((0, 3), (0, 3), (0, 3)), box((1, 4), (0, 3), (0, 3)), SPACING, tolerance_mm=0.5
    )
    assert inner == corner


def test_absent_from_both_is_not_measurable():
    found = label_agreement(np.zeros(SHAPE), np.zeros(SHAPE), SPACING)
    assert math.isnan(found.dice)
    assert math.isnan(found.hd95_mm)
    assert math.isnan(found.surface_dice)
    assert found.volume_ml == found.reference_ml == 0


@pytest.mark.parametrize("missed", [True, False])
def test_absent_from_one_is_the_worst(missed):
    pair = [np.zeros(SHAPE), voxel(4, 4, 4)]
    found = label_agreement(*(pair if missed else pair[::-1]), SPACING)
    assert found.dice == found.surface_dice == 0
    assert found.hd95_mm == pytest.approx(12 * math.sqrt(1 + 4 + 9))


def test_two_dimensions():
    one = box((2, 5), (2, 5), shape=(10, 10))
    two = box((3, 6), (2, 5), shape=(10, 10))
    found = label_agreement(one, two, (2.0, 1.0), tolerance_mm=2.0)
    assert found.dice == pytest.approx(2 * 6 / 18)
    assert found.hd95_mm == pytest.approx(2.0)
    assert found.surface_dice == 1


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="share one grid"):
        label_agreement(np.zeros((3, 3, 3)), np.zeros((3, 3, 4)), SPACING)
    with pytest.raises(ValueError, match="share one grid"):
        label_agreement(np.zeros((3, 3, 3)), np.zeros((3, 3, 3)), (1.0, 1.0))
    with pytest.raises(ValueError, match="tolerance_mm"):
        label_agreement(np.zeros(SHAPE), np.zeros(SHAPE), SPACING, tolerance_mm=-1)
