from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

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


def finding(predict, tests=None, config=CONFIG):
    table = measure_removal(predict, tests or volumes(), config)
    return remove(replace(net_evidence(), removal=table), config)


def test_a_net_that_looks_passes():
    found = finding(sees)
    assert found.passed
    assert found.value == pytest.approx(0, abs=0.005)
    assert "no truly empty volumes" in found.rule


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
    assert finding(always, volumes(6, empty=6)).threshold > 0.2


def test_canary_one_structure_drawn_from_habit_among_others_that_are_not():
    tests = volumes()
    good = measure_removal(sees, replace(tests, name="good"), CONFIG)
    bad = measure_removal(always, replace(tests, name="bad"), CONFIG)
    for parts in ((good, bad), (bad, good)):
        table = pd.concat(parts, ignore_index=True)
        found = remove(replace(net_evidence(), removal=table), CONFIG)
        assert found.passed is False
        assert found.value == finding(always).value
        assert "good: 0.00 mL" in found.detail
        assert "bad: 0." in found.detail


def test_not_measured_fails():
    assert remove(net_evidence(), CONFIG).passed is False
    table = measure_removal(sees, volumes(), CONFIG, arm="elastic")
    assert remove(replace(net_evidence(), removal=table), CONFIG).passed is False


def test_nan_fails():
    table = measure_removal(sees, volumes(), CONFIG)
    table.loc[table["condition"] == "removed", "false_positive_ml"] = np.nan
    assert remove(replace(net_evidence(), removal=table), CONFIG).passed is False


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
    assert remove(replace(net_evidence(), removal=both), CONFIG).passed
    found = remove(replace(net_evidence(), removal=both, removed_arms=judged), CONFIG)
    assert found.passed is False
    assert "elastic" in found.detail
    assert "dream" in found.detail
    found = remove(replace(net_evidence(), removal=honest, removed_arms=judged), CONFIG)
    assert found.passed is False
    assert found.detail == "not measured for elastic"
