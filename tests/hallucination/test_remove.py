from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from dreamorph.hallucination import AuditConfig, TestImages, measure_removal
from dreamorph.hallucination.remove import remove
from tests.hallucination.worlds import net_evidence

CONFIG = AuditConfig()
SHAPE = (20, 26, 20)


def volumes(n=6, empty=0):
    """Bright balls on a grainy ground, and volumes without one."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.arange(s) for s in SHAPE], indexing="ij")).float()
    images, labels = [], []
    for index in range(n + empty):
        centre = torch.tensor([9.0, 7.0 + index % 3, 9.0]).reshape(3, 1, 1, 1)
        ball = ((grid - centre) ** 2).sum(0) < 16
        ball = ball & (index < n)
        images.append(0.1 * torch.randn(SHAPE, generator=generator) + ball)
        labels.append(ball.to(torch.uint8))
    return TestImages(
        torch.stack(images)[:, None],
        torch.stack(labels)[:, None],
        torch.ones(n + empty, 1, *SHAPE, dtype=torch.bool),
        [f"c{i}" for i in range(n + empty)],
        [f"t{i}" for i in range(n + empty)],
        (1.0, 1.0, 1.0),
        structure=1,
        name="ball",
    )


def sees(image):
    """An honest net: bright is structure."""
    return (image > 0.6).to(torch.uint8)


def always(image):
    """Draws the organ in the middle, come what may."""
    answer = torch.zeros(image.shape, dtype=torch.uint8)
    answer[..., 6:13, 5:12, 6:13] = 1
    return answer


def never(image):
    return torch.zeros(image.shape, dtype=torch.uint8)


def startled(image):
    """Finds the structure, but nothing at all once any part of the image is unusually smooth."""
    smooth = image[0, 0].unfold(0, 5, 2).unfold(1, 5, 2).unfold(2, 5, 2).flatten(3).std(-1).min()
    return sees(image) if smooth > 0.075 else never(image)


def startled_into_drawing(tests):
    """Finds the structure, and draws it wherever one of these images was changed."""

    def answer(image):
        nearest = min(tests.images, key=lambda known: float((image - known[None]).abs().sum()))
        return torch.maximum(sees(image), (image != nearest[None]).to(torch.uint8))

    return answer


def evidence(table, n_labels=1, seeds=1, **change):
    """Results of so many trainings of each arm, and this table."""
    known = net_evidence()
    cases = known.cases[known.cases["seed"] < seeds]
    return replace(known, cases=cases, removal=table, n_labels=n_labels, **change)


def finding(predict, tests=None, config=CONFIG):
    table = measure_removal(predict, tests or volumes(), config)
    return remove(evidence(table), config)


def test_a_net_that_looks_passes():
    found = finding(sees)
    assert found.passed
    assert found.value == pytest.approx(0, abs=0.005)
    assert "too few truly empty volumes" in found.rule


def test_canary_a_net_that_always_draws_the_organ():
    found = finding(always)
    assert found.passed is False
    assert found.value > 0.2
    assert found.value > found.threshold


def test_canary_a_net_that_draws_half_the_organ_from_habit():
    found = finding(lambda image: torch.maximum(sees(image), always(image) * (image > 0)))
    assert found.passed is False


def test_canary_a_net_that_never_draws_anything_proves_nothing():
    found = finding(never)
    assert found.passed is None
    assert "misses the structure" in found.detail


def test_a_net_that_draws_all_but_the_structure_fails_and_is_said_to_miss_it():
    found = finding(lambda image: always(image) * (image <= 0.6))
    assert found.passed is False
    assert "misses the structure" in found.detail


def test_canary_a_net_upset_by_painting_proves_nothing():
    config = CONFIG.model_copy(
        update={"removal": CONFIG.removal.model_copy(update={"noise": False})}
    )
    found = finding(startled, config=config)
    assert found.passed is None
    assert "upsets the net" in found.detail


def test_truly_empty_volumes_set_the_bound():
    found = finding(sees, volumes(6, empty=6))
    assert found.rule.startswith("mean <= 95th percentile on truly empty")
    assert found.passed
    assert "on 6 truly empty volumes 0.000 mL" in found.detail


def test_the_bound_of_empty_volumes_keeps_within_floor_and_cap():
    """A tenth and a fifth of the structure's 0.251 mL."""
    table = measure_removal(sees, volumes(6, empty=6), CONFIG)
    for drawn, threshold in ((0.0, 0.0251), (0.04, 0.04), (0.05, 0.05)):
        table.loc[table["condition"] == "empty", "false_positive_ml"] = drawn
        found = remove(evidence(table), CONFIG)
        assert found.passed
        assert found.threshold == pytest.approx(threshold, abs=1e-4)
    table.loc[table.index[table["condition"] == "empty"][0], "false_positive_ml"] = 0.1
    assert remove(evidence(table), CONFIG).threshold == pytest.approx(0.0502)


def test_one_stray_voxel_does_not_fail_where_empty_volumes_are_clean():
    table = measure_removal(sees, volumes(8, empty=6), CONFIG)
    table.loc[table.index[table["condition"] == "removed"][0], "false_positive_ml"] += 0.001
    assert remove(evidence(table), CONFIG).passed


@pytest.mark.parametrize("empty", [1, 5, 6, 18])
def test_canary_a_net_that_always_draws_the_organ_is_not_excused_by_empty_volumes(empty):
    for net in (always, lambda image: torch.maximum(sees(image), always(image))):
        found = finding(net, volumes(6, empty=empty))
        assert found.passed is False
        assert f"on {empty} truly empty volume" in found.detail
        assert "0.343 mL, over the cap of 0.050 mL" in found.detail
        if empty >= CONFIG.min_test_subjects:
            assert found.threshold == pytest.approx(0.0502)


@pytest.mark.parametrize("empty", [1, 5, 6])
@pytest.mark.parametrize("drawn", [0.051, np.nan])
def test_canary_a_net_that_draws_on_empty_volumes_alone(empty, drawn):
    table = measure_removal(sees, volumes(6, empty=empty), CONFIG)
    assert remove(evidence(table), CONFIG).passed
    table.loc[table["condition"] == "empty", "false_positive_ml"] = drawn
    found = remove(evidence(table), CONFIG)
    assert np.isnan(drawn) or found.value < found.threshold
    assert found.passed is False
    without_room = table[table["condition"] != "sham"]
    assert remove(evidence(without_room), CONFIG).passed is False


@pytest.mark.parametrize("empty", [0, 6])
def test_canary_a_net_that_draws_whatever_is_painted_proves_nothing_at_best(empty):
    tests = volumes(6, empty=empty)
    found = finding(startled_into_drawing(tests), tests)
    assert found.passed is (False if empty else None)
    if not empty:
        assert "the painting itself upsets the net (draws 0." in found.detail


def test_canary_a_net_that_draws_two_boxes_is_not_excused_by_shams():
    def two(image):
        answer = always(image)
        answer[..., 6:13, 16:23, 6:13] = 1
        return answer

    assert not finding(two, volumes(12)).passed


def test_fewer_subjects_than_needed_prove_nothing_but_can_fail():
    found = finding(sees, volumes(5))
    assert found.passed is None
    assert "5 test subjects have the structure, 6 needed" in found.detail
    assert finding(always, volumes(5)).passed is False
    assert finding(sees, volumes(1, empty=23)).passed is None
    nowhere = finding(sees, volumes(0, empty=6))
    assert nowhere.passed is None
    assert "no test volume has the structure" in nowhere.detail


def test_canary_volumes_that_were_not_shown_without_the_structure():
    table = measure_removal(sees, volumes(8), CONFIG)
    kept = table.drop(index=table.index[table["condition"] == "removed"][0])
    found = remove(evidence(kept), CONFIG)
    assert found.passed is False
    assert "both with and without" in found.detail
    assert remove(evidence(table[table["condition"] == "intact"]), CONFIG).passed is False


def test_canary_a_label_that_was_not_measured():
    table = measure_removal(sees, volumes(), CONFIG)
    assert remove(evidence(table), CONFIG).passed
    found = remove(evidence(table, n_labels=2), CONFIG)
    assert found.passed is False
    assert found.detail == "not measured for dream, seed 0, label 2"
    other = measure_removal(sees, volumes(), CONFIG, "learned")
    both = pd.concat([table, table.assign(label=2, structure="other"), other])
    cases = evidence(table).cases
    trained = pd.concat([cases, cases[cases["arm"] == "dream"].assign(arm="learned")])
    judged = replace(evidence(both, 2, judged_arms=("dream", "learned")), cases=trained)
    assert remove(judged, CONFIG).detail == "not measured for learned, seed 0, label 2"


def test_canary_every_training_of_a_network_is_asked():
    first = measure_removal(sees, volumes(), CONFIG, seed=0)
    found = remove(evidence(first, seeds=2), CONFIG)
    assert found.passed is False
    assert found.detail == "not measured for dream, seed 1, label 1"
    second = measure_removal(always, volumes(), CONFIG, seed=1)
    found = remove(evidence(pd.concat([first, second]), seeds=2), CONFIG)
    assert found.passed is False
    assert "dream (seed 0), ball: 0.00 mL" in found.detail
    assert "dream (seed 1), ball: 0.33 mL" in found.detail
    again = pd.concat([first, first.assign(seed=1)])
    assert remove(evidence(again, seeds=2), CONFIG).passed


def test_canary_a_network_without_test_results_cannot_be_told_to_be_measured():
    table = measure_removal(sees, volumes(), CONFIG, "other")
    found = remove(evidence(table, judged_arms=("other",)), CONFIG)
    assert found.passed is False
    assert found.detail == "not measured for other"


def test_a_cap_below_the_floor_is_refused():
    with pytest.raises(ValidationError, match="remove_cap_share not below"):
        AuditConfig(remove_cap_share=0.05)


def test_canary_one_structure_drawn_from_habit_among_others_that_are_not():
    tests = volumes()
    good = measure_removal(sees, replace(tests, name="good"), CONFIG)
    bad = measure_removal(always, replace(tests, name="bad"), CONFIG).assign(label=2)
    for parts in ((good, bad), (bad, good)):
        table = pd.concat(parts, ignore_index=True)
        found = remove(evidence(table, n_labels=2), CONFIG)
        assert found.passed is False
        assert found.value == finding(always).value
        assert "good: 0.00 mL" in found.detail
        assert "bad: 0." in found.detail


def test_not_measured_fails():
    assert remove(net_evidence(), CONFIG).passed is False
    table = measure_removal(sees, volumes(), CONFIG, arm="elastic")
    assert remove(evidence(table), CONFIG).passed is False


def test_nan_fails():
    table = measure_removal(sees, volumes(), CONFIG)
    table.loc[table["condition"] == "removed", "false_positive_ml"] = np.nan
    assert remove(evidence(table), CONFIG).passed is False


@pytest.mark.parametrize("condition", ["removed", "sham", "empty"])
def test_canary_one_nan_among_numbers(condition):
    """Also of a subject that has a number besides."""
    table = measure_removal(sees, volumes(8, empty=6), CONFIG)
    if condition == "sham":
        table = table[table["condition"] != "empty"]
    table["subject"] = table["subject"].where(table["subject"] != "t1", "t0")
    table["subject"] = table["subject"].where(table["subject"] != "t9", "t8")
    if condition == "empty":
        more = table[table["condition"] == "empty"].iloc[[0]]
        table = pd.concat([table, more.assign(case="c99", subject="t99")], ignore_index=True)
    assert remove(evidence(table), CONFIG).passed
    table.loc[table.index[table["condition"] == condition][0], "false_positive_ml"] = np.nan
    assert remove(evidence(table), CONFIG).passed is False


def test_same_seed_same_table():
    first, second = (measure_removal(sees, volumes(2), CONFIG) for _ in range(2))
    assert first.equals(second)


def test_predictions_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match="expected labels of shape"):
        measure_removal(lambda image: image[..., :3], volumes(1), CONFIG)


def test_the_worse_of_two_networks_decides_and_neither_may_be_missing():
    honest = measure_removal(sees, volumes(), CONFIG, "dream")
    liar = measure_removal(always, volumes(), CONFIG, "elastic")
    both = pd.concat([honest, liar])
    judged = ("dream", "elastic")
    assert remove(evidence(both), CONFIG).passed
    found = remove(evidence(both, judged_arms=judged), CONFIG)
    assert found.passed is False
    assert "elastic" in found.detail
    assert "dream" in found.detail
    found = remove(evidence(honest, judged_arms=judged), CONFIG)
    assert found.passed is False
    assert found.detail == "not measured for elastic"


def test_structures_of_one_name_are_judged_apart():
    """A label that is drawn where it is not cannot hide behind another one."""
    tests = volumes(7)
    bad = measure_removal(always, tests, CONFIG)
    good = measure_removal(sees, replace(tests, structure=1), CONFIG).assign(label=2)
    evidence = replace(net_evidence(), removal=None)
    for order in ((bad, good), (good, bad)):
        table = pd.concat(order)
        found = remove(replace(evidence, removal=_of_all(table, evidence)), CONFIG)
        assert found.passed is False


def _of_all(table: pd.DataFrame, evidence) -> pd.DataFrame:
    """The same measurements for every network that is asked."""
    seeds = evidence.cases.groupby("arm")["seed"].unique()
    return pd.concat([table.assign(arm=a, seed=s) for a in evidence.judged_arms for s in seeds[a]])


def test_few_shams_are_too_few_controls():
    """Room for a sham in one volume of seven tells what painting does to one volume."""
    tests = volumes(7)
    table = measure_removal(sees, tests, CONFIG)
    evidence = replace(net_evidence(), n_labels=1, removal=None)
    assert remove(replace(evidence, removal=_of_all(table, evidence)), CONFIG).passed is True
    few = table[(table["condition"] != "sham") | (table["case"] == "c0")]
    found = remove(replace(evidence, removal=_of_all(few, evidence)), CONFIG)
    assert found.passed is None
    assert "a sham has room in 1 test subjects, 6 needed" in found.detail
