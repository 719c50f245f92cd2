"""The whole pipeline on shapes that are told apart by class."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import draws
from dreamorph.evaluation.classification import accuracy, auc
from tests.pipelines.conftest import ROOT, Workplace, make_workplace
from tests.pipelines.test_end_to_end import runs

SIZE = 20


@pytest.fixture(scope="module")
def classified(
    tmp_path_factory: pytest.TempPathFactory, empty_tracking_database: Path
) -> Workplace:
    """A finished run on small shapes: round ones and long ones."""
    workplace = make_workplace(tmp_path_factory.mktemp("classified"), empty_tracking_database)
    write_shapes(workplace.root / "shapes.npz")
    result = workplace.run(
        "--env", "tiny", "--params", "cohort.path=shapes.npz,study=tiny,dreaming.pool=40"
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return workplace


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory, empty_tracking_database: Path) -> Workplace:
    """A finished run on scans of such shapes, which nobody has outlined."""
    workplace = make_workplace(tmp_path_factory.mktemp("grey"), empty_tracking_database)
    write_shapes(workplace.root / "scans.npz", noise=12.0)
    result = workplace.run(
        "--env", "tiny", "--params", "cohort.path=scans.npz,study=tiny,cohort.modality=MR"
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return workplace


def write_shapes(file: Path, noise: float = 0.0) -> None:
    """Ellipsoids; those of class 1 are longer. With noise they are grey on a dark ground."""
    generator = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE) - (SIZE - 1) / 2] * 3, indexing="ij"))
    parts = {}
    for part, count in (("train", 8), ("val", 4), ("test", 8)):
        labels = np.arange(count) % 2
        radii = generator.uniform(4.0, 5.5, (count, 3))
        radii[:, 1] += 2.0 * labels
        images = [(((grid / r[:, None, None, None]) ** 2).sum(0) < 1).astype("u1") for r in radii]
        if noise:
            ground = generator.normal(0, noise, (count, SIZE, SIZE, SIZE))
            scans = 60 + 120 * np.stack(images) + ground
            images = list(scans.clip(0, 255).astype("u1"))
        parts |= {f"{part}_images": np.stack(images), f"{part}_labels": labels[:, None]}
    np.savez(file, **parts)


def read(workplace: Workplace, name: str) -> Path:
    (file,) = workplace.root.glob(f"data/*/tiny/{name}")
    return file


def test_arms_and_the_plain_method_are_scored_by_class(classified: Workplace) -> None:
    cases = pd.read_csv(read(classified, "cases.csv"))
    assert set(cases["arm"]) == {*classified.arms(), "shape_features"}
    assert cases.groupby("arm")["case"].nunique().eq(8).all()
    metrics = json.loads(read(classified, "arm_metrics.json").read_text())
    for arm in (*classified.arms(), "shape_features"):
        assert 0 <= metrics[arm]["test"]["auc"] <= 1
    tuned = pd.read_csv(read(classified, "tuning_scores.csv"))
    assert set(tuned["arm"]) >= {"classic", "elastic", "learned"}
    checks = pd.read_csv(read(classified, "checks.csv")).set_index("name")
    assert checks.loc["remove", "verdict"] == "not_assessable"
    assert checks.loc["remove", "severity"] == "gate"
    assert json.loads(read(classified, "verdict.json").read_text())["verdict"] != "pass"
    page = read(classified, "report.html").read_text()
    assert "no check asks yet" in page
    assert "could not be drawn" not in page


def test_scans_without_any_label_map_are_dreamed_of_by_class(grey: Workplace) -> None:
    cases = pd.read_csv(read(grey, "cases.csv"))
    assert set(cases["arm"]) == {*grey.arms(), "shape_features"}
    checks = pd.read_csv(read(grey, "checks.csv"), keep_default_na=False).set_index("name")
    assert not checks["detail"].str.contains("failed closed").any(), checks["detail"].to_dict()
    page = read(grey, "report.html").read_text()
    assert "could not be drawn" not in page


def test_the_same_command_again_scores_the_same(classified: Workplace) -> None:
    before = read(classified, "cases.csv").read_bytes()
    result = classified.run(
        "--env", "tiny", "--params", "cohort.path=shapes.npz,study=tiny,dreaming.pool=40"
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert read(classified, "cases.csv").read_bytes() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_logged_classifier_loads_back(classified: Workplace) -> None:
    _, nested = runs(classified)
    mlflow.set_tracking_uri(f"sqlite:///{classified.root / 'mlruns' / 'mlflow.db'}")
    assert "model_error" not in nested["dream"].data.tags
    model = mlflow.pytorch.load_model(nested["dream"].data.tags["model_uri"])
    for shape in ((SIZE, SIZE, SIZE), (SIZE + 8, SIZE, SIZE + 5)):
        logits = model(torch.zeros(3, 1, *shape))
        assert logits.shape == (3, 2)
        assert bool(torch.isfinite(logits).all())


def test_pieces_of_a_draw_come_to_what_the_pipeline_does(classified: Workplace) -> None:
    path = {"path": classified.root / "shapes.npz"}
    given = draws.read_parameters(ROOT, "tiny", cohort=path, dreaming={"pool": 40})
    quiet = given.training.model_copy(update={"progress": False})
    given = given.model_copy(update={"training": quiet})
    cases = pd.read_csv(read(classified, "cases.csv"))
    taught = pd.read_csv(read(classified, "case_table.csv"))
    cohort = draws.cohort_of_classes(given, int((taught["split"] == "train").sum()), 0)
    prepared = draws.prepare(cohort, given)
    rows, answers = draws.plain(cohort, given)
    network = draws.trained(cohort, given, prepared, "dream", 1.0, 0, answers)
    for found in (rows, network):
        own = cases[cases["arm"] == found["arm"][0]]
        true = own["class"].map(cohort.class_names.index).to_numpy()
        probabilities = own[[f"p_{name}" for name in cohort.class_names]].to_numpy()
        assert found["auc"][0] == pytest.approx(auc(true, probabilities))
        assert found["accuracy"][0] == pytest.approx(accuracy(true, probabilities))
