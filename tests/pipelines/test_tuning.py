"""Cross-validation within the training subjects: what a fold may know, and what follows."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml

from dreamorph.datasets import AtomicStore, RecordDataset
from dreamorph.parameters import Parameters
from dreamorph.pipelines.ingest.nodes import note_origin
from dreamorph.pipelines.train.nodes import NOT_CHOSEN, plan_arms
from dreamorph.pipelines.tune import folds as module
from dreamorph.pipelines.tune.folds import Folds, Settings, shortened
from dreamorph.pipelines.tune.nodes import choose_warps, plan_tuning
from dreamorph.prior import DeformationPrior
from dreamorph.training import TrainedArm
from dreamorph.training.tuning import COLUMNS, TuningConfig
from dreamorph.volumes.config import CohortConfig
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
    original = folds.material

    def material(held_out: tuple[str, ...]):
        made = original(held_out)
        seen.append((held_out, module.parted(folds.cohort, held_out)[0], made))
        return made

    monkeypatch.setattr(folds, "material", material)
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
    table = pd.DataFrame(scored, columns=list(COLUMNS))
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


def test_a_fold_without_dreams_has_scores_of_other_warps(
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
    assert all(not judged[f"dream-{n}"]["rows"] for n in (1, 2, 3))
    assert all(judged[f"elastic-{n}"]["rows"] for n in range(4))


def test_a_perfect_answer_scores_one(folds: Folds, monkeypatch: pytest.MonkeyPatch) -> None:
    train = folds.cohort.select(folds.cohort.indices("train"))
    truth = torch.nn.functional.one_hot(train.labels[:, 0].long(), train.n_labels + 1)
    answers = [one[None].movedim(-1, 1).float() for one in truth]
    monkeypatch.setattr(module, "predict_each", lambda *_: iter(answers))
    monkeypatch.setattr(TrainedArm, "build", lambda _: None)
    nobody = TrainedArm("elastic", 0, None, {}, pd.DataFrame())  # type: ignore[arg-type]
    scores = module.held_out_scores(nobody, train, {})
    names = train.label_names.values()
    assert scores == [(s, name, 1.0) for s in train.table["subject"] for name in names]
    answers[0] = answers[0].flip(1)
    worse = module.held_out_scores(nobody, train, {})
    assert {s for s, _, score in worse if score < 1} == {train.table["subject"][0]}
    assert len(names) == train.n_labels


def test_classes_count_alike_however_rare(folds: Folds, monkeypatch: pytest.MonkeyPatch) -> None:
    """To call everybody well scores one half, whatever the share of the sick."""
    train = folds.cohort.select(folds.cohort.indices("train"))
    classes = ["sick", *["well"] * (len(train) - 1)]
    subjects = [f"s{k}" for k in range(len(train))]
    cohort = dataclasses.replace(
        train,
        table=train.table.assign(**{"class": classes, "subject": subjects}),
        label_names={},
        class_names=["sick", "well"],
    )
    nobody = TrainedArm("elastic", 0, None, {}, pd.DataFrame())  # type: ignore[arg-type]
    monkeypatch.setattr(TrainedArm, "build", lambda _: None)

    def mean(answers: list[list[float]]) -> float:
        found = iter([torch.tensor([answer]) for answer in answers])
        monkeypatch.setattr(module, "predict_each", lambda *_: found)
        weights = Folds(
            cohort, folds.alignment, folds.pair_table, folds.pairs, folds.settings, 2
        ).class_weights
        scores = module.held_out_scores(nobody, cohort, weights)
        assert [(s, label) for s, label, _ in scores] == [(s, module.CLASS) for s in subjects]
        return sum(score for *_, score in scores) / len(scores)

    assert mean([[0.0, 1.0]] * len(train)) == pytest.approx(0.5)
    assert mean([[1.0, 0.0], *[[0.0, 1.0]] * (len(train) - 1)]) == pytest.approx(1.0)


def test_classes_count_alike_where_subjects_have_unequal_numbers_of_volumes() -> None:
    table = pd.DataFrame(
        {"subject": list("aaaabcde"), "class": ["well"] * 6 + ["sick"] * 2, "split": "train"}
    )
    cohort = SimpleNamespace(table=table, indices=lambda _: list(range(len(table))))
    weights = module.class_weights(cohort)  # type: ignore[arg-type]
    assert weights == pytest.approx({"well": 5 / (2 * 3), "sick": 5 / (2 * 2)})

    def mean(answer: str) -> float:
        scores = table.assign(score=[weights[c] * (c == answer) for c in table["class"]])
        return float(scores.groupby("subject")["score"].mean().mean())

    assert mean("well") == mean("sick") == pytest.approx(0.5)
    # one volume a subject: what it always was
    table["subject"] = list("abcdefgh")
    assert module.class_weights(cohort) == {"well": 8 / 12, "sick": 8 / 4}  # type: ignore[arg-type]


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

    def plan(source: dict, folds: int | None, origin: dict | None = None) -> pd.DataFrame:
        tuning = p.tuning.model_copy(update={"folds": folds})
        config = p.cohort.model_copy(update=source)
        return plan_tuning(
            cohort, prior, pair_table, config, origin or {}, tuning, p.training,
            p.affine_warps, p.elastic_warps, p.dreaming, p.audit,
        )  # fmt: skip

    assert plan({}, None).empty
    assert plan({"path": Path("study")}, None)["fold"].nunique() == 3
    assert plan({}, 2)["fold"].nunique() == 2
    assert plan({"path": Path("study")}, 0).empty
    assert plan({}, 2)["key"].is_unique
    # a run of this step alone may name the study only: what ingest noted says whose it is
    real = note_origin(CohortConfig(path=Path("study")), {})
    assert plan({}, None, real)["fold"].nunique() == 3
    assert plan({}, None, note_origin(p.cohort, {})).empty


def test_without_scores_random_warps_stay_as_given() -> None:
    elastic = parameters().elastic_warps.model_copy(update={"energy": 0.8})
    empty = pd.DataFrame(columns=["arm", "energy", "fold", "key"])
    cohort = SimpleNamespace(n_labels=1, label_names={})
    scores, choice = choose_warps(cohort, empty, {}, TuningConfig(), elastic)
    assert scores.empty
    assert choice["elastic_energy"] == 0.8
    assert choice["recommended_arm"] == NOT_CHOSEN


@pytest.mark.parametrize(("n_labels", "recommended"), [(2, "learned"), (0, "classic")])
def test_without_a_lead_the_task_decides(n_labels: int, recommended: str) -> None:
    ways = ("learned", "elastic", "dream")
    arms, subjects = ways if n_labels else (*ways, "classic"), range(4)
    tuned = {
        arm: {
            "rows": [[arm, 1.0, 0, str(k), "a", 0.5 + 0.01 * ((k + place) % 2)] for k in subjects]
        }
        for place, arm in enumerate(arms)
    }
    plan = pd.DataFrame({"key": arms})
    cohort = SimpleNamespace(n_labels=n_labels, label_names={})
    given = parameters().elastic_warps
    _, choice = choose_warps(cohort, plan, tuned, TuningConfig(), given)
    assert choice["recommended_arm"] == recommended


def test_labels_that_do_not_count_have_no_say_and_are_shown() -> None:
    arms, subjects = ("learned", "elastic", "dream"), range(4)
    better = {"organ": "dream", "lesion": "learned"}
    tuned = {
        arm: {
            "rows": [
                [arm, 1.0, 0, str(k), label, 0.5 + 0.2 * (better[label] == arm) + 0.01 * (k % 2)]
                for k in subjects
                for label in better
            ]
        }
        for arm in arms
    }
    plan = pd.DataFrame({"key": arms})
    cohort = SimpleNamespace(n_labels=2, label_names={1: "organ", 2: "lesion"})
    given = parameters().elastic_warps

    def chosen(labels: tuple[str, ...] | None) -> tuple[pd.DataFrame, dict]:
        return choose_warps(cohort, plan, tuned, TuningConfig(labels=labels), given)

    assert chosen(None)[1]["recommended_arm"] == "learned"
    scores, choice = chosen(("organ",))
    assert choice["recommended_arm"] == "dream"
    assert choice["counted_labels"] == ["organ"]
    assert set(scores["label"]) == {"organ", "lesion"}


def test_a_fold_that_no_pair_joins_has_no_scores(
    folds: Folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "pair_table", folds.pair_table.iloc[:0])
    judged = {k: v for item in folds.judge(plan_of(folds)) for k, v in item.items()}
    assert set(judged) == set(plan_of(folds)["key"])
    assert not any(value["rows"] for value in judged.values())


def test_the_gate_of_a_fold_judges_every_dream(folds: Folds) -> None:
    """The whole training part as one fold's learners: what passes is what the gate lets pass."""
    settings = replace_pool(folds.settings, 12)
    sources = module.sources_of(folds.cohort)
    members = list(range(len(folds.alignment.cases)))
    table = folds.pair_table
    prior = module.fit_to(
        members, folds.cohort, folds.alignment, table, folds.pairs, settings.prior
    )
    accepted = module.accepted_dreams(sources, prior, table, settings)
    recipes = module.Dreamer(prior).recipes(
        12, range(len(sources.cases)), torch.Generator().manual_seed(settings.tuning.seed)
    )
    gate = module.Gate(sources, table, settings.audit, prior.fingerprint)
    judged = gate.judge(module.replay(prior, sources, recipes))
    assert [r.dream for r in accepted] == list(judged.loc[judged["accepted"], "dream"])
    assert {r.source for r in accepted} <= set(sources.cases)


def replace_pool(settings: Settings, pool: int) -> Settings:
    """The same with another number of dreams to judge."""
    return dataclasses.replace(settings, tuning=settings.tuning.model_copy(update={"pool": pool}))


def test_what_was_chosen_shapes_the_arms(finished: Workplace) -> None:
    """Each arm by its own energy; a recommended arm is trained though not asked for."""
    p = parameters()
    cohort = load(finished.root, "cohort")
    (file,) = finished.root.glob("data/*/tiny/prior.pt")
    prior = DeformationPrior.load(file)
    table = load(finished.root, "dream_table.csv").assign(accepted=True)
    table["class"] = table["class"].astype(str)

    training = p.training.model_copy(update={"arms": ("none", "classic", "elastic", "dream")})

    def keys(arm: str, energy: float, mixed: float = 1.0) -> dict[str, str]:
        choice = {"elastic_energy": energy, "learned_energy": mixed, "recommended_arm": arm}
        plan = plan_arms(cohort, prior, table, choice, training, p.affine_warps, p.elastic_warps)
        return dict(zip(plan["arm"], plan["key"], strict=True))

    one, two = keys(NOT_CHOSEN, 1.0), keys("learned", 2.0)
    assert set(one) == set(training.arms)
    assert set(two) == {*training.arms, "learned"}
    assert [arm for arm in one if one[arm] != two[arm]] == ["elastic"]
    three = keys("learned", 2.0, 4.0)
    assert [arm for arm in two if two[arm] != three[arm]] == ["learned"]


def test_keys_of_the_plan_follow_what_scores_depend_on(
    finished: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = parameters()
    cohort, pair_table = (load(finished.root, name) for name in ("cohort", "pair_table.csv"))

    def plan(labels: dict[int, str] | None = None, **change: object) -> set[str]:
        named = {
            "tuning": p.tuning.model_copy(update={"folds": 3}), "training": p.training,
            "affine": p.affine_warps, "elastic": p.elastic_warps, "dreaming": p.dreaming,
            "audit": p.audit, "prior": "known",
        }  # fmt: skip
        for name, update in change.items():
            old = named[name]
            named[name] = update if name == "prior" else old.model_copy(update=update)
        prior = type("Prior", (), {"fingerprint": named.pop("prior")})()
        known = dataclasses.replace(cohort, label_names=labels or cohort.label_names)
        return set(plan_tuning(known, prior, pair_table, p.cohort, {}, **named)["key"])

    base = plan()
    for change in (
        {"training": {"steps": 40}}, {"training": {"learning_rate": 1.0}}, {"prior": "other"},
        {"tuning": {"seed": 5, "folds": 3}}, {"tuning": {"pool": 9, "folds": 3}},
        {"dreaming": {"scale": 2.0}}, {"audit": {"provenance_tolerance": 1e-6}},
        {"affine": {"shift_mm": 9.0}}, {"elastic": {"sigma_mm": 9.0}},
    ):  # fmt: skip
        assert not base & plan(**change), change
    # scores are kept under the labels' names
    renamed = {value: f"{name} part" for value, name in cohort.label_names.items()}
    assert not base & plan(renamed)
    for change in ({"training": {"progress": False}}, {"training": {"seeds": (7,)}}):
        assert plan(**change) == base, change
    monkeypatch.setattr("dreamorph.pipelines.tune.nodes.GATE", "another")
    assert not base & plan()
