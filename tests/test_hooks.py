"""A whole run of a small pipeline: what MLflow holds afterwards."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from filelock import FileLock
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from dreamorph.errors import CohortError, DreamorphError, ParameterError
from dreamorph.hooks import groups, in_project, of_others, run_name
from dreamorph.pipelines import (
    audit,
    dream,
    evaluate,
    ingest,
    prior,
    register,
    report,
    train,
    tune,
)
from dreamorph.tracking.places import follow
from tests.conftest import small_project


def kedro_run(project: Path, env: str | None = None, **parameters: Any) -> None:
    bootstrap_project(project)
    with KedroSession.create(project, env=env, runtime_params=parameters) as session:
        session.run()


def client(project: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{project}/mlruns/mlflow.db")


def runs(project: Path) -> list[Run]:
    """All runs, oldest first."""
    found = client(project).search_experiments(filter_string="name = 'dreamorph'")
    ids = [experiment.experiment_id for experiment in found]
    return client(project).search_runs(ids, order_by=["attributes.start_time ASC"]) if ids else []


def parents(project: Path) -> list[Run]:
    return [run for run in runs(project) if "arm" not in run.data.tags]


def arms(project: Path, parent: Run) -> dict[str, Run]:
    tag = "mlflow.parentRunId"
    nested = [run for run in runs(project) if run.data.tags.get(tag) == parent.info.run_id]
    found = {run.data.tags["arm"]: run for run in nested}
    assert len(found) == len(nested)
    return found


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, empty_tracking_database: Path
) -> Iterator[Path]:
    """A project after its first run, for tests that only look."""
    folder = tmp_path_factory.mktemp("finished")
    with small_project(folder, empty_tracking_database, nets=True) as root:
        kedro_run(root)
        yield root


def test_a_run_is_tracked_as_declared(finished: Path, tmp_path: Path) -> None:
    (run,) = parents(finished)
    api = client(finished)
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags["verdict"], tags["study"], tags["git_commit"]) == ("pass", "simulated", "unknown")
    assert tags["patients"] == "simulated"
    assert run.info.run_name == "simulated"
    assert run.data.params["work.items"] == "4"
    assert run.data.params["work.scale"] == "1.0"
    assert run.data.metrics == {
        "check/folds": 600.0, "check_passed/folds": 1.0, "check_passed/two_sample": -1.0,
        "test/dice_mean": 600.0,
    }  # fmt: skip
    files = {item.path for item in api.list_artifacts(run.info.run_id)}
    assert files == {"sums", "checks.json", "report.html"}
    file = api.download_artifacts(run.info.run_id, "checks.json", str(tmp_path))
    table = json.loads(Path(file).read_text())
    assert table["columns"] == ["name", "value", "verdict"]
    assert table["data"] == [["folds", 600.0, "pass"], ["two_sample", None, "not_assessable"]]


def test_arms_are_nested_runs(finished: Path) -> None:
    (parent,) = parents(finished)
    nested = arms(finished, parent)
    assert set(nested) == {"elastic", "dream"}
    run = nested["dream"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.2", "warp.kind": "dream"}
    assert run.data.metrics == {"train/loss": 0.5, "test/dice_mean": 0.0}
    history = client(finished).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5)]


def test_the_net_of_an_arm_loads_back_at_other_sizes(finished: Path) -> None:
    (parent,) = parents(finished)
    uri = arms(finished, parent)["dream"].data.tags["model_uri"]
    net = mlflow.pytorch.load_model(uri)
    assert net(torch.ones(3, 1, 6, 7, 8)).shape == (3, 2, 6, 7, 8)
    assert np.asarray(
        mlflow.pyfunc.load_model(uri).predict(np.ones((1, 1, 9, 5, 6), np.float32))
    ).shape == (1, 2, 9, 5, 6)


def test_a_repeated_run_redoes_nothing_and_tracks_everything(project: Path) -> None:
    kedro_run(project)
    report = project / "data/08_reporting/simulated/report.html"
    assert report.exists()
    kedro_run(project)
    assert len((project / "computed.txt").read_text().split()) == 4
    first, second = parents(project)
    assert set(arms(project, first)) == set(arms(project, second)) == {"elastic", "dream"}
    assert second.data.metrics == first.data.metrics
    run = arms(project, second)["dream"]
    assert run.data.metrics == {"train/loss": 0.5, "test/dice_mean": 0.0}


def test_changed_parameters_redo_what_depends_on_them(project: Path) -> None:
    kedro_run(project)
    kedro_run(project, work={"items": 2})
    items = project / "data/02_intermediate/simulated/items"
    assert sorted(path.stem for path in items.iterdir()) == ["item_0", "item_1"]
    assert len((project / "computed.txt").read_text().split()) == 4
    kedro_run(project, work={"scale": 2.0})
    assert len((project / "computed.txt").read_text().split()) == 8


def test_an_environment_keeps_its_results_apart(project: Path) -> None:
    kedro_run(project)
    kedro_run(project, env="hippocampus")
    data = project / "data/02_intermediate"
    assert {path.name for path in data.iterdir()} == {"simulated", "hippocampus"}
    run = parents(project)[-1]
    assert run.data.tags["study"] == "hippocampus"
    assert run.data.params["work.items"] == "2"
    assert run.data.params["log"] == "computed.txt"  # the base's, merged key by key


def test_a_failed_run_says_why(project: Path) -> None:
    with pytest.raises(CohortError):
        kedro_run(project, work={"fail": "items"})
    (run,) = parents(project)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("cohort.path: expected volumes")
    assert run.data.tags["verdict"] == "fail"  # closed
    assert mlflow.active_run() is None


def test_no_patient_path_reaches_mlflow(project: Path) -> None:
    path = "/ward/doe_jane/study_7"
    with pytest.raises(ZeroDivisionError):
        kedro_run(project, cohort={"path": path}, work={"fail": "total"})
    (run,) = parents(project)
    assert run.data.tags["study"] == "study_7"
    assert run.data.params["cohort.path"] == "hidden"
    assert run.data.tags["error"] == "unexpected ZeroDivisionError: a bug in [path]"
    everything = {**run.data.tags, **run.data.params}
    assert not [key for key, value in everything.items() if "doe_jane" in value]
    assert set(arms(project, run)) == {"elastic", "dream"}  # what was finished is tracked


def test_a_run_of_the_last_step_only(project: Path) -> None:
    """What a partial run builds on belongs to its record."""
    kedro_run(project)
    bootstrap_project(project)
    with KedroSession.create(project) as session:
        session.run(from_inputs=["arms"])
    assert set(arms(project, parents(project)[-1])) == {"elastic", "dream"}


def test_parameters_of_earlier_steps_are_not_shown_as_used(project: Path) -> None:
    kedro_run(project)
    bootstrap_project(project)
    given = {"work": {"scale": 9.0}}
    with KedroSession.create(project, runtime_params=given) as session:
        session.run(node_names=["make_arms"])
    first, second = parents(project)
    assert "earlier_parameters" not in first.data.tags
    assert first.data.params["log"] == "computed.txt"
    assert second.data.tags["earlier_parameters"] == "log, work"
    assert "log" not in second.data.params
    assert second.data.params["work.scale"] == "9.0"  # of the arms it is true


def test_a_place_to_compute_makes_no_group_one_of_a_step() -> None:
    """`audit,report` alone asks for training.device, and trains nothing."""
    steps = [ingest, register, prior, dream, tune, train, evaluate, audit, report]
    whole = sum((step.create_pipeline() for step in steps), start=Pipeline([]))
    some = audit.create_pipeline() + report.create_pipeline()
    unused = set(of_others(some, whole)) - set(groups(some.nodes))
    assert {"training", "registration", "evaluation", "prior"} <= unused
    assert not {"audit", "report"} & unused


def test_a_misspelt_parameter_stops_the_run_first(project: Path) -> None:
    with pytest.raises(ParameterError, match=r"did you mean 'work\.items'\?"):
        kedro_run(project, work={"item": 3})
    with pytest.raises(ParameterError, match="did you mean 'work'"):
        kedro_run(project, wok={"items": 3})
    assert not runs(project)
    assert not (project / "data").exists()


def test_a_wrong_declaration_stops_the_run_first(project: Path) -> None:
    file = project / "conf/base/catalog.yml"
    file.write_text(file.read_text().replace("kind: tags", "kind: tag"))
    with pytest.raises(ParameterError, match=r"catalog entry 'tags', metadata\.mlflow"):
        kedro_run(project)
    assert not (project / "data").exists()
    assert [run.info.status for run in runs(project)] == ["FAILED"]


def test_the_database_is_in_the_project(tmp_path: Path) -> None:
    assert in_project("sqlite:///mlruns/a.db", tmp_path) == f"sqlite:///{tmp_path}/mlruns/a.db"
    assert (tmp_path / "mlruns").is_dir()
    for uri in (None, "https://host", "sqlite:////absolute/a.db"):
        assert in_project(uri, tmp_path) == uri


def test_artifacts_of_a_moved_project_move_with_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kedro_run(project)
    artifacts = project / "mlruns" / "artifacts"
    before = sorted(artifacts.rglob("*"))
    moved = shutil.copytree(project, project.parent / "moved here")
    monkeypatch.chdir(moved)
    kedro_run(moved)
    assert sorted(artifacts.rglob("*")) == before
    client = MlflowClient(f"sqlite:///{moved / 'mlruns' / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_id for run in runs}) > 1
    for address in (experiment.artifact_location, *(run.info.artifact_uri for run in runs)):
        assert Path(local_file_uri_to_path(address)).is_relative_to(moved / "mlruns")
    assert any(client.list_artifacts(run.info.run_id) for run in runs)


def test_only_local_places_follow(tmp_path: Path) -> None:
    database = tmp_path / "none.db"
    assert not follow(database, (tmp_path / "a b").as_uri(), str(tmp_path / "a b"))
    assert not follow(database, "s3://bucket/x", str(tmp_path))
    assert not database.exists()


def test_a_run_of_some_pipelines_says_which() -> None:
    assert run_name("hippocampus", "__default__") == "hippocampus"
    assert run_name("hippocampus", "prior+dream") == "hippocampus: prior+dream"


def test_one_run_of_a_study_at_a_time(project: Path) -> None:
    """Another one is refused and writes nothing; one that failed lets go."""
    (project / "data").mkdir(exist_ok=True)
    with FileLock(project / "data" / ".simulated.lock"):
        with pytest.raises(DreamorphError, match="another run of this study is under way"):
            kedro_run(project)
        assert parents(project) == []
        kedro_run(project, study="apart")
    with pytest.raises(CohortError):
        kedro_run(project, work={"fail": "items"})
    kedro_run(project)
    kedro_run(project)
