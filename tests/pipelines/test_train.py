"""What the training step keeps and calls by which name."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from dreamorph.datasets import AtomicStore
from dreamorph.dreaming import AffineWarpConfig, ElasticWarpConfig
from dreamorph.dreaming.dreams import Recipe, recipes_to_table
from dreamorph.errors import StaleError, TrainingError
from dreamorph.pipelines.train import nodes
from dreamorph.training import NetworkSpec, TrainedArm, TrainingConfig


def plan_of(seeds: tuple[int, ...]) -> pd.DataFrame:
    rows = [{"arm": "dream", "seed": seed, "key": f"dream-{seed}-x"} for seed in seeds]
    return pd.DataFrame(rows)


def test_networks_are_not_stored_under_another_plan_s_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A plan left by other parameters, or made by another run meanwhile."""
    monkeypatch.setattr(nodes, "plan_arms", lambda *_: plan_of((0,)).assign(key="dream-0-other"))
    found = nodes.train_arms(
        None, None, None, None, plan_of((0,)), TrainingConfig(),  # type: ignore[arg-type]
        None, None, tmp_path, AtomicStore(str(tmp_path / "arms")).load(),  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(StaleError, match="the plan of networks is of other parameters"):
        next(found)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The node, with networks that take no time; gives key -> name in the dashboard."""
    spec = NetworkSpec("unet", "segmentation", 3, 1, 2, (4, 8))
    trained: list[tuple[str, int]] = []

    def learn(jobs: list, *_: Any) -> Iterator[TrainedArm]:
        for arm, seed in jobs:
            trained.append((arm.name, seed))
            yield TrainedArm(arm.name, seed, spec, {}, pd.DataFrame({"step": [1]}))

    monkeypatch.setattr(nodes, "learn", learn)
    monkeypatch.setattr(nodes, "training_data", lambda _: None)
    monkeypatch.setattr(nodes, "task_of", lambda _: "segmentation")
    monkeypatch.setattr(nodes, "_arms", lambda *_: [SimpleNamespace(name="dream")])
    table = pd.DataFrame({"subject": ["s"], "fingerprint": ["f"]})
    cohort = SimpleNamespace(table=table, indices=lambda _: [0], shape=(4, 4, 4))
    store = AtomicStore(str(tmp_path / "arms"))

    def run(seeds: tuple[int, ...]) -> tuple[dict[str, str], list[tuple[str, int]]]:
        trained.clear()
        plan = plan_of(seeds)
        monkeypatch.setattr(nodes, "plan_arms", lambda *_: plan_of(seeds))
        found = nodes.train_arms(
            cohort, None, None, None, plan, TrainingConfig(seeds=seeds),  # type: ignore[arg-type]
            None, None, tmp_path / "checkpoints", store.load(),  # type: ignore[arg-type]
        )  # fmt: skip
        for item in found:
            store.save(item)
        return {key: item["arm"] for key, item in store.load().items()}, list(trained)

    return run


def test_seeds_added_later_are_called_as_if_they_had_been_there(train: Any) -> None:
    """An arm's own name is that of its mean, as soon as there are several trainings."""
    assert train((0,)) == ({"dream-0-x": "dream"}, [("dream", 0)])
    names = {"dream-0-x": "dream-seed0", "dream-1-x": "dream-seed1"}
    assert train((0, 1)) == (names, [("dream", 1)])
    assert train((0, 1)) == (names, [])
    assert train((1,)) == ({"dream-1-x": "dream"}, [])


def test_a_network_that_was_planned_and_not_trained_is_named() -> None:
    with pytest.raises(TrainingError, match="arm dream was planned and is not there"):
        nodes.stored_network({"dream-0-y": {}}, "dream", "dream-0-x")


def test_canary_networks_see_accepted_dreams_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gate kept out is in the same table, with the reason beside it."""
    seen: list[str] = []

    class Seen:
        """In place of the material: notes which dreams it was given."""

        def __init__(self, *given: Any) -> None:
            seen.extend(recipe.dream for recipe in given[5])

        def with_energy(self, energy: float) -> Any:
            return self

        def arm(self, name: str) -> str:
            return name

    monkeypatch.setattr(nodes, "Material", Seen)
    monkeypatch.setattr(nodes, "sources_of", lambda _: SimpleNamespace(cases=["a"], classes=[None]))
    recipes = [Recipe(f"dream_{k}", "a", "s", None, k, "prior", 1.0, (0.0,)) for k in range(4)]
    table = recipes_to_table(recipes).assign(
        accepted=[True, False, True, False], reason=["", "folds", "", "topology"]
    )
    choice = {"recommended_arm": "learned", "elastic_energy": 4.0, "learned_energy": 4.0}
    cohort = SimpleNamespace(shape=(4, 4, 4), spacing_mm=(1.0, 1.0, 1.0))
    arms = nodes._arms(
        cohort, None, table, choice, TrainingConfig(arms=["elastic", "dream"]),  # type: ignore[arg-type]
        AffineWarpConfig(), ElasticWarpConfig(),
    )  # fmt: skip
    assert arms == ["elastic", "dream", "learned"]
    assert seen == ["dream_0", "dream_2"]
