"""Check `remove`: second organs, organs beside the painted place, organs in a few subjects."""

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.hallucination import measure_removal
from dreamorph.hallucination.removal import MARGIN_VOXELS, _false
from dreamorph.hallucination.remove import remove
from tests.hallucination.test_remove import CONFIG, evidence, finding, sees, volumes


def with_a_ghost(start, thickness=7):
    """Right where the structure is, and a second one always at the same place."""

    def answer(image):
        drawn = sees(image)
        drawn[..., 6:13, start : start + thickness, 6:13] = 1
        return drawn

    return answer


def beside(image):
    """Right as long as the structure is there; without it, one elsewhere."""
    return sees(image) if sees(image).sum() > 50 else with_a_ghost(17)(image)


def invents_in(tests, rows):
    """Right, but in these volumes the structure is drawn whether it is there or not."""
    balls = tests.labels[[row % int(tests.labels.flatten(1).any(1).sum()) for row in rows]]
    marks = tests.images[rows, 0, -1, -1, -1].tolist()

    def answer(image):
        drawn = sees(image)
        for mark, ball in zip(marks, balls, strict=True):
            if float(image[0, 0, -1, -1, -1]) == pytest.approx(mark, abs=1e-6):
                drawn = torch.maximum(drawn, ball[None])
        return drawn

    return answer


@pytest.mark.parametrize("start", [14, 16, 19])
@pytest.mark.parametrize("empty", [0, 6])
def test_canary_a_second_organ_in_every_volume(start, empty):
    """Drawn before the painting too; also where it adjoins the painted region."""
    found = finding(with_a_ghost(start), volumes(6, empty=empty))
    assert found.passed is False
    assert found.value > 0.2
    assert "half of it or more in 6 of 6 subjects" in found.detail


def test_canary_a_second_organ_of_a_fifth_of_the_size_does_not_pass():
    found = finding(with_a_ghost(19, thickness=1))
    assert found.value == pytest.approx(0.049)
    assert not found.passed


def test_canary_a_net_that_draws_beside_the_painted_region_alone():
    found = finding(beside)
    assert found.passed is False
    assert found.value == pytest.approx(0.343, abs=0.002)


def test_the_margin_of_the_structure_is_excused_and_nothing_else():
    """By hand: the region ends at voxel 4."""
    region, before = np.zeros((2, 1, 1, 16), bool)
    region[..., 2:5] = True
    before[..., [5, 6, 7, 9]] = True
    false = _false(before, before, region)
    assert MARGIN_VOXELS == 2
    assert np.flatnonzero(false).tolist() == [7, 9]
    assert np.array_equal(_false(before, np.zeros_like(before), region), before)
    assert np.array_equal(_false(region, region, region), region)


@pytest.mark.parametrize(
    ("subjects", "rows", "passed"), [(12, [3], False), (24, [3, 20], False), (24, [3], True)]
)
def test_canary_the_whole_organ_in_more_than_one_of_twenty_subjects(subjects, rows, passed):
    tests = volumes(subjects)
    found = finding(invents_in(tests, rows), tests)
    assert found.value < 0.9 * found.threshold
    assert found.passed is passed
    assert f"half of it or more in {len(rows)} of {subjects} subjects" in found.detail


@pytest.mark.parametrize("rows", [[24], [1, 5], [1, 5, 9, 13, 24]])
def test_canary_the_whole_organ_in_some_who_have_it_or_some_who_lack_it(rows):
    """Each within the bounds of the means."""
    tests = volumes(24, empty=6)
    found = finding(invents_in(tests, rows), tests)
    assert found.value <= found.threshold
    assert "over the cap" not in found.detail
    assert found.passed is False
    assert f"half of it or more in {int(24 in rows)} of 6 subjects who lack it" in found.detail


def test_canary_specks_in_every_volume():
    """Twenty-four single voxels, less than a tenth of the structure."""

    def specks(image):
        drawn = sees(image)
        drawn[..., ::6, 17::5, ::8] = 1
        return drawn

    found = finding(specks)
    assert found.value < found.threshold
    assert found.passed is False
    assert "24.0 components are more than 10.0" in found.detail
    assert finding(specks, volumes(6, empty=1)).passed is False


@pytest.mark.parametrize(
    ("removed", "sham", "empty", "passed"),
    [
        (10, 0, None, True),
        (11, 0, None, False),
        (50, 0, None, False),
        (11, 11, None, None),
        (0, 11, None, None),
        (11, 0, 0, False),
        (15, 0, 15, True),
        (50, 0, 50, False),
        (0, 0, 21, False),
        (np.nan, 0, None, False),
        (0, np.nan, None, False),
        (0, 0, np.nan, False),
    ],
)
def test_components_have_bounds_of_their_own(removed, sham, empty, passed):
    """Ten, or what empty volumes show up to twenty; what shams show too proves nothing."""
    table = measure_removal(sees, volumes(6, empty=0 if empty is None else 6), CONFIG)
    for condition, pieces in (("removed", removed), ("sham", sham), ("empty", empty)):
        table.loc[table["condition"] == condition, "components"] = pieces
    assert remove(evidence(table), CONFIG).passed is passed


def one_of_nineteen(table, condition, share):
    """The first volume of a condition with so much of its structure drawn."""
    row = table.index[table["condition"] == condition][0]
    table.loc[row, "false_positive_ml"] = share * table.loc[row, "structure_ml"]


def test_what_shams_do_as_often_is_the_painting_and_proves_nothing():
    table = measure_removal(sees, volumes(19), CONFIG)
    one_of_nineteen(table, "removed", 0.5)
    assert remove(evidence(table), CONFIG).passed is False
    one_of_nineteen(table, "sham", 0.5)
    found = remove(evidence(table), CONFIG)
    assert found.passed is None
    assert "the painting itself upsets the net" in found.detail


def test_without_any_control_a_few_whole_organs_fail_all_the_same():
    table = measure_removal(sees, volumes(12), CONFIG)
    table = table[table["condition"] != "sham"]
    assert remove(evidence(table), CONFIG).passed is None
    one_of_nineteen(table, "removed", 1.0)
    assert remove(evidence(table), CONFIG).passed is False


def test_half_of_a_structure_that_is_nearly_absent_is_no_organ():
    """A subject with a tenth of the usual volume; but a second scan of one counts."""
    table = measure_removal(sees, volumes(12), CONFIG)
    first = table["case"] == "c0"
    table.loc[first, "structure_ml"] /= 10
    one_of_nineteen(table, "removed", 0.6)
    assert remove(evidence(table), CONFIG).passed
    again = table[first].assign(case="c0b", structure_ml=0.25, false_positive_ml=0.0)
    again.loc[again["condition"] == "removed", "false_positive_ml"] = 0.13
    assert remove(evidence(pd.concat([table, again])), CONFIG).passed is False
