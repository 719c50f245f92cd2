"""How the digits' benchmark chooses settings, without a training."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import mnist
from benchmarks.digits import CLASSES, Digits
from benchmarks.mnist import FINALISTS, FOLDS, GRIDS, Settings, SmallSet


@pytest.fixture
def train_set() -> Digits:
    return Digits(torch.zeros(60 * CLASSES, 1, 2, 2), torch.arange(CLASSES).repeat(60))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """What is trained: digits that teach, seed and settings; width 1.5 does best in the folds.

    On the digits that seed 0 judges, where they are no fold, width 2 does.
    """
    asked: list[tuple[int, int, str]] = []

    def train(digits: Digits, warps: Settings, net: str, seed: int, steps: int) -> nn.Module:
        asked.append((len(digits), seed, str(warps)))
        best = 2.0 if seed == 0 else 1.5
        model = nn.Identity()
        model.error = abs(warps.values[0] - 1.5) + abs(warps.values[1] - best) + warps.affine
        return model

    monkeypatch.setattr(mnist, "RESULTS", tmp_path)
    monkeypatch.setattr(mnist, "FEW", 30)
    monkeypatch.setattr(mnist, "PER_CLASS", (30, 60))
    monkeypatch.setattr(mnist, "train", train)
    monkeypatch.setattr(mnist, "error_of", lambda model, _: model.error)
    monkeypatch.setattr(SmallSet, "warps", lambda _, arm, settings: settings)
    return asked


def test_of_many_digits_the_best_of_one_split_go_on_to_folds_of_all(
    train_set: Digits, trained: list[tuple[int, int, str]]
) -> None:
    found = mnist.chosen(60, train_set, "elastic", "mlp")
    first, folds = trained[: len(GRIDS["elastic"])], trained[len(GRIDS["elastic"]) :]
    assert {(count, seed) for count, seed, _ in first} == {(500, 0)}
    assert {(count, seed) for count, seed, _ in folds} == {(480, 1 + k) for k in range(FOLDS)}
    assert len(folds) == FINALISTS * FOLDS
    assert len({settings for *_, settings in folds}) == FINALISTS
    assert found == mnist.settled(600, "elastic", "mlp") == Settings((1.5, 1.5))
    trained.clear()
    assert mnist.chosen(60, train_set, "elastic", "mlp") == found
    assert trained == []


def test_of_few_digits_folds_judge_all_settings(
    train_set: Digits, trained: list[tuple[int, int, str]]
) -> None:
    mnist.chosen(30, train_set, "elastic", "mlp")
    assert {(count, seed) for count, seed, _ in trained} == {(240, k) for k in range(FOLDS)}
    assert len(trained) == FOLDS * len(mnist.AFFINE_GRIDS["elastic"])
    table = pd.read_csv(mnist.RESULTS / "mnist_tuning.csv")
    assert set(table["digits"]) == {300}


def test_while_folds_are_not_all_judged_one_split_says_what_is_settled(
    train_set: Digits, trained: list[tuple[int, int, str]]
) -> None:
    mnist.chosen(60, train_set, "elastic", "mlp")
    file = mnist.RESULTS / "mnist_tuning.csv"
    pd.read_csv(file).iloc[:-1].to_csv(file, index=False)
    assert mnist.settled(600, "elastic", "mlp") == Settings((1.5, 2.0))
    rows = [
        [600, "elastic", "mlp", seed, mnist.STEPS, settings, error]
        for settings, error in (("1.5 2", 2.0), ("1.5 1.5", 1.0))
        for seed in range(2)
    ]
    table = mnist.summary(pd.DataFrame(rows, columns=mnist.COLUMNS))
    assert table["mlp, error %"].to_list() == ["2.00 ± 0.00"]


def test_arms_that_have_no_settings_train_nothing(
    train_set: Digits, trained: list[tuple[int, int, str]]
) -> None:
    assert mnist.chosen(60, train_set, "affine", "mlp") == Settings()
    assert trained == []
