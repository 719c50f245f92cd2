"""Cross-validation within the training subjects: what a fold may know, and what follows."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from dreamorph.datasets import AtomicStore, RecordDataset
from dreamorph.parameters import Parameters
from dreamorph.pipelines.train.nodes import NOT_CHOSEN
from dreamorph.pipelines.tune import folds as module
from dreamorph.pipelines.tune.folds import Folds, Settings, shortened
from dreamorph.pipelines.tune.nodes import choose_warps, plan_tuning
from dreamorph.training import TrainedArm
from dreamorph.volumes.cohort import Cohort
from tests.pipelines.conftest import ROOT, Workplace


def parameters() -> Parameters:
    """Those of the tiny run."""
    merged: dict = {}
    files = [*sorted((ROOT / "conf/base/parameters").glob("*.yml"))]
    for file in [*files, ROOT / "conf/tiny/parameters.yml"]:
        for group, values in (yaml.safe_load(file.read_text()) or {}).items():
            merged[group] = merged.get(group, {}) | values
    merged["report"] = {}
    return Parameters.model_validate(merged)


def load(root: Path, name: str) -> object:
    (path,) = root.glob(f"data/*/tiny/{name}")
    if name.endswith(".csv"):
        return pd.read_csv(path)
    return (AtomicStore if name == "pairs" else RecordDataset)(str(path)).load()


@pytest.fixture(scope="module")
def folds(finished: Workplace) -> Folds:
    """The folds of the tiny run, from what it left on disk."""
    p = parameters()
    settings = Settings(
        p.prior, p.tuning, p.training, p.affine_warps, p.elastic_warps, p.dreaming, p.audit
    )
    names = ("cohort", "alignment", "pair_table.csv", "pairs")
    return Folds(*(load(finished.root, name) for name in names), settings, count=4)


def plan_of(folds: Folds) -> pd.DataFrame:
    ways = [("elastic", 1.0), ("dream", 1.0)]
    rows = [[arm, e, n, f"{arm}-{n}"] for n in range(len(folds.folds)) for arm, e in ways]
    return pd.DataFrame(rows, columns=["arm", "energy", "fold", "key"])


def test_a_fold_learns_nothing_from_those_it_is_judged_on(
    folds: Folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes, prior and dreams of a fold know the other subjects only; judges are the rest."""
    seen: list[tuple] = []
    original = folds._material

    def material(learners: Cohort, held_out: tuple[str, ...]):
        made = original(learners, held_out)
        seen.append((held_out, learners, made))
        return made

    monkeypatch.setattr(folds, "_material", material)
    monkeypatch.setattr(module, "accepted_dreams", _all_dreams)
    judged = list(folds.judge(plan_of(folds)))
    train = folds.cohort.table.iloc[folds.cohort.indices("train")]
    assert sorted(s for out, *_ in seen for s in out) == sorted(train["subject"])
    for held_out, learners, made in seen:
        own = set(train.loc[train["subject"].isin(held_out), "case"])
        assert not own & set(learners.cases)
        assert not own & set(made.prior.members)
        assert not own & {recipe.source for recipe in made.recipes}
        assert set(made.cases) == set(train["case"]) - own
        assert set(made.prior.subjects) - set(held_out) == set(made.prior.subjects)
    scored = [row for item in judged for value in item.values() for row in value["rows"]]
    table = pd.DataFrame(scored, columns=["arm", "energy", "fold", "subject", "score"])
    for number, held_out in enumerate(folds.folds):
        assert set(table.loc[table["fold"] == number, "subject"]) == set(held_out)
    assert table["score"].between(0, 1).all()
    assert set(table["subject"]).isdisjoint(
        folds.cohort.table.loc[folds.cohort.table["split"] == "test", "subject"]
    )


def _all_dreams(sources, prior, pair_table, settings):
    """Dreams without a gate, which of so few volumes would let none pass."""
    members = [prior.members.index(case) for case in sources.cases]
    generator = torch.Generator().manual_seed(0)
    return module.Dreamer(prior).recipes(8, members, generator)


def test_a_fold_without_dreams_has_no_scores_and_the_others_go_on(
    folds: Folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def only_the_first(*given):
        calls.append(given)
        return _all_dreams(*given) if len(calls) == 1 else []

    monkeypatch.setattr(module, "accepted_dreams", only_the_first)
    judged = {k: v for item in folds.judge(plan_of(folds)) for k, v in item.items()}
    assert set(judged) == set(plan_of(folds)["key"])
    assert judged["dream-0"]["rows"]
    assert all(not judged[f"{arm}-{n}"]["rows"] for arm in ("elastic", "dream") for n in (1, 2, 3))


def test_a_perfect_answer_scores_one(folds: Folds, monkeypatch: pytest.MonkeyPatch) -> None:
    train = folds.cohort.select(folds.cohort.indices("train"))
    truth = torch.nn.functional.one_hot(train.labels[:, 0].long(), train.n_labels + 1)
    answers = [one[None].movedim(-1, 1).float() for one in truth]
    monkeypatch.setattr(module, "predict_each", lambda *_: iter(answers))
    monkeypatch.setattr(TrainedArm, "build", lambda _: None)
    nobody = TrainedArm("elastic", 0, None, {}, pd.DataFrame())  # type: ignore[arg-type]
    scores = module.held_out_scores(nobody, train)
    assert scores == dict.fromkeys(train.table["subject"], 1.0)
    answers[0] = answers[0].flip(1)
    worse = module.held_out_scores(nobody, train)
    assert [s for s in scores if worse[s] < 1] == [train.table["subject"][0]]


def test_candidates_are_trained_as_the_arms_are_but_shorter() -> None:
    p = parameters()
    short = shortened(p.training, p.tuning)
    assert short.steps == round(p.training.steps * p.tuning.share_of_steps)
    same = {"learning_rate", "batch_size", "channels", "intensity", "dream_fraction", "network"}
    assert short.model_dump(include=same) == p.training.model_dump(include=same)


def test_simulated_patients_are_not_tuned_on_unless_asked(finished: Workplace) -> None:
    p = parameters()
    cohort, pair_table = (load(finished.root, name) for name in ("cohort", "pair_table.csv"))
    prior = type("Prior", (), {"fingerprint": "known"})()

    def plan(source: dict, folds: int | None) -> pd.DataFrame:
        tuning = p.tuning.model_copy(update={"folds": folds})
        config = p.cohort.model_copy(update=source)
        return plan_tuning(
            cohort, prior, pair_table, config, tuning, p.training, p.affine_warps,
            p.elastic_warps, p.dreaming, p.audit,
        )  # fmt: skip

    assert plan({}, None).empty
    assert plan({"path": Path("study")}, None)["fold"].nunique() == 3
    assert plan({}, 2)["fold"].nunique() == 2
    assert plan({"path": Path("study")}, 0).empty
    assert plan({}, 2)["key"].is_unique


def test_without_scores_random_warps_stay_as_given() -> None:
    elastic = parameters().elastic_warps.model_copy(update={"energy": 0.8})
    empty = pd.DataFrame(columns=["arm", "energy", "fold", "key"])
    scores, choice = choose_warps(empty, {}, elastic)
    assert scores.empty
    assert choice["elastic_energy"] == 0.8
    assert choice["recommended_arm"] == NOT_CHOSEN
