"""The whole pipeline, small: what it leaves behind, how it resumes, how it is killed."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow.tracking import MlflowClient

from dreamorph.datasets import AtomicStore, RecordDataset
from dreamorph.dreaming import AffineWarpConfig
from dreamorph.errors import CohortError
from dreamorph.evaluation import EvaluationConfig
from dreamorph.pipelines.evaluate.nodes import check_unseen
from dreamorph.pipelines.train.nodes import build
from dreamorph.training import Views, predict
from tests.pipelines.conftest import ROOT, Workplace

DATA = "data"
#: What a run makes, in its order. The first is the folder of patients, not yet whole.
MOMENTS = (
    "data/01_raw/simulated/.tmp*/*/*",
    *(f"data/*/tiny/{name}/*" for name in ("plain_scores", "pairs")),
    "data/*/tiny/prior.pt",
    *(
        f"data/*/tiny/{name}/*"
        for name in ("tuning", "judged_dreams", "dreams", "checkpoints", "arms")
    ),
    "data/*/tiny/scores/*",
    "data/*/tiny/checks.csv",
    "data/*/tiny/report.html",
)


def expected_arms(workplace: Workplace) -> set[str]:
    """Networks, their averages with the fusion where they learn from warps, and the fusion."""
    arms = workplace.arms()
    return {*arms, *(f"{arm}+atlas" for arm in arms - {"none", "classic"}), "atlas"}


def tracking(workplace: Workplace) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace.root / 'mlruns' / 'mlflow.db'}")


def runs(workplace: Workplace) -> tuple[list, dict]:
    """Parent runs, newest first, and the nested runs of the newest by name."""
    client = tracking(workplace)
    experiment = client.get_experiment_by_name("dreamorph")
    found = client.search_runs([experiment.experiment_id])
    parents = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
    newest = parents[0].info.run_id
    nested = {r.info.run_name: r for r in found if r.data.tags.get("mlflow.parentRunId") == newest}
    return parents, nested


def stamps(workplace: Workplace) -> dict[str, int]:
    """When each stored item was last written."""
    folders = ("affine_pairs", "pairs", "judged_dreams", "dreams", "tuning", "arms", "scores")
    return {
        str(file.relative_to(workplace.root)): file.stat().st_mtime_ns
        for folder in (*folders, "plain_scores")
        for file in workplace.root.glob(f"{DATA}/*/tiny/{folder}/*")
        # what a kill leaves half-written: swept, or a label whose image was still to come
        if not file.name.startswith(".tmp") and not file.name.endswith("_label.nii.gz")
    }


def table(workplace: Workplace, name: str) -> pd.DataFrame:
    (file,) = workplace.root.glob(f"{DATA}/*/tiny/{name}.csv")
    return pd.read_csv(file)


def test_a_run_leaves_scores_checks_and_a_report_that_says_simulated(finished: Workplace) -> None:
    cases = table(finished, "cases")
    assert set(cases["arm"]) == expected_arms(finished)
    assert cases["case"].nunique() == 6
    assert cases["dice"].between(0, 1).all()
    split = table(finished, "split")
    assert set(cases["case"]) == set(split.loc[split["split"] == "test", "case"])
    checks = table(finished, "checks")
    assert len(checks) == 12
    assert set(checks["verdict"]) <= {"pass", "fail", "not_assessable"}
    page = (finished.root / "data/08_reporting/tiny/report.html").read_text()
    assert "Simulated patients" in page
    assert not re.search(r"""(src|href)=["']https?:""", page)
    assert str(finished.root) not in page


def test_mlflow_holds_one_parent_and_one_nested_run_per_arm(finished: Workplace) -> None:
    parents, nested = runs(finished)
    assert set(nested) == expected_arms(finished)
    parent = parents[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["verdict"] in {"pass", "fail", "not_assessable"}
    assert parent.data.params["registration.window"] == "5"
    assert {"test/dice_mean", "check/folds", "check_passed/remove", "prior/shrinkage"} <= set(
        parent.data.metrics
    )
    cases = table(finished, "cases")
    for arm in finished.arms():
        expected = cases.loc[cases["arm"] == arm, "dice"].mean()
        assert nested[arm].data.metrics["test/dice_mean"] == pytest.approx(expected)
        history = tracking(finished).get_metric_history(nested[arm].info.run_id, "train/loss")
        assert len(history) == 8
    artifacts = {f.path for f in tracking(finished).list_artifacts(parent.info.run_id)}
    assert {"checks.json", "cases.json", "report.html", "quarantine.json"} <= artifacts


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_logged_model_loads_back_and_takes_volumes_of_other_sizes(finished: Workplace) -> None:
    _, nested = runs(finished)
    mlflow.set_tracking_uri(f"sqlite:///{finished.root / 'mlruns' / 'mlflow.db'}")
    for arm in ("none", "dream"):
        assert "model_error" not in nested[arm].data.tags
        model = mlflow.pytorch.load_model(nested[arm].data.tags["model_uri"])
        model = model.module() if hasattr(model, "module") else model
        stored = AtomicStore(str(finished.root / "data/06_models/tiny/arms")).load()
        (key,) = (key for key in stored if key.startswith(f"{arm}-"))
        own = build(stored[key]).eval()
        generator = torch.Generator().manual_seed(0)
        for shape in (stored[key]["input_shape"][1:], (32, 40, 24), (25, 31, 19)):
            volumes = torch.randn(2, 1, *shape, generator=generator)
            with torch.no_grad():
                logits, expected = model(volumes), own(volumes)
            assert logits.shape == (2, own_outputs(stored[key]), *shape)
            assert bool(torch.isfinite(logits).all())
            if shape == stored[key]["input_shape"][1:]:
                assert torch.equal(logits, expected)
            assert torch.allclose(logits, expected, atol=1e-5)


def own_outputs(item: dict) -> int:
    """Labels and background of a stored network."""
    return int(item["network"]["n_outputs"])


def test_dreams_open_as_nifti_in_the_place_of_their_source(finished: Workplace) -> None:
    dreams = table(finished, "dream_table")
    saved = sorted(finished.root.glob("data/05_model_input/tiny/dreams/*_image.nii.gz"))
    assert len(saved) == min(2, int(dreams["accepted"].sum()))
    cohort = RecordDataset(str(finished.root / "data/03_primary/tiny/cohort")).load()
    for file in saved:
        image = nibabel.load(file)
        key = file.name.removesuffix("_image.nii.gz")
        (source,) = dreams.loc[dreams["dream"] == key.rpartition("-")[0], "source"]
        assert np.allclose(image.affine, cohort.affines[cohort.index_of(source)])
        assert image.shape == cohort.shape
        label = nibabel.load(str(file).replace("_image", "_label"))
        assert image.shape == label.shape
        assert np.array_equal(image.affine, label.affine)
        assert image.header.get_zooms() == pytest.approx((4.0, 4.0, 4.0))
        assert len(np.unique(label.dataobj)) > 1


def test_every_dream_of_the_pool_is_accounted_for(finished: Workplace) -> None:
    dreams = table(finished, "dream_table")
    assert len(dreams) == 12
    rejected = dreams[~dreams["accepted"]]
    assert rejected["reason"].str.len().gt(0).all()
    split = table(finished, "split")
    train = set(split.loc[split["split"] == "train", "case"])
    assert set(dreams["source"]) <= train


def test_the_same_command_again_redoes_nothing_and_says_the_same(copied: Workplace) -> None:
    before, scores = stamps(copied), table(copied, "cases")
    result = copied.run("--env", "tiny")
    assert result.returncode == 0, result.stderr[-3000:]
    assert stamps(copied) == before
    pd.testing.assert_frame_equal(table(copied, "cases"), scores)
    parents, nested = runs(copied)
    assert len(parents) >= 2
    assert set(nested) == expected_arms(copied)


def test_a_changed_parameter_redoes_what_depends_on_it_and_nothing_else(
    copied: Workplace,
) -> None:
    before = stamps(copied)
    result = copied.run("--env", "tiny", "--params", "training.learning_rate=0.001")
    assert result.returncode == 0, result.stderr[-3000:]
    after = stamps(copied)
    kept = {name for name, when in after.items() if before.get(name) == when}
    assert _redone(before, after) == {"tuning", "arms", "scores"}
    assert {Path(name).parent.name for name in kept} >= {"pairs", "judged_dreams", "plain_scores"}


@pytest.mark.parametrize(
    ("step", "parameter", "redone"),
    [
        ("evaluate", "evaluation.tolerance_mm=3", {"scores", "plain_scores"}),
        ("dream", "dreaming.scale=0.7", {"judged_dreams", "dreams"}),
    ],
)
def test_a_step_alone_redoes_what_its_parameter_changes(
    copied: Workplace, step: str, parameter: str, redone: set[str]
) -> None:
    before = stamps(copied)
    result = copied.run("--env", "tiny", "--pipelines", step, "--params", parameter)
    assert result.returncode == 0, result.stderr[-3000:]
    assert _redone(before, stamps(copied)) == redone


@pytest.mark.parametrize("what", ["subject", "fingerprint"])
def test_a_network_is_not_scored_on_those_it_learned_from(finished: Workplace, what: str) -> None:
    """A training subject, or a training volume under another name, among the test cases."""
    cohort = RecordDataset(str(finished.root / "data/03_primary/tiny/cohort")).load()
    arms = AtomicStore(str(finished.root / "data/06_models/tiny/arms")).load()
    tests = cohort.select(cohort.indices("test"))
    for key in arms:
        check_unseen(arms[key], tests)
    taught = cohort.table.iloc[cohort.indices("train")]
    leaked = tests.table.copy()
    leaked.loc[0, what] = taught[what].iloc[0]
    with pytest.raises(CohortError, match="learned from 1 of the test cases"):
        check_unseen(arms[next(iter(arms))], dataclasses.replace(tests, table=leaked))


def _redone(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Folders in which something was written."""
    return {Path(name).parent.name for name, when in after.items() if before.get(name) != when}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_like_an_unbroken_one(
    finished: Workplace, workplace: Workplace
) -> None:
    """Killed as soon as each kind of result appears; then the same command finishes the work.

    What was finished before a kill is not made again, and all tables are those of an unbroken run.
    """
    broken = workplace
    made: dict[str, int] = {}
    for moment in MOMENTS:
        kill_once_there(broken, moment)
        survived = stamps(broken)
        assert {name: survived.get(name) for name in made} == made
        made = survived
    result = broken.run("--env", "tiny")
    assert result.returncode == 0, result.stderr[-3000:]
    scores = table(broken, "cases").sort_values(["arm", "case", "label"], ignore_index=True)
    expected = table(finished, "cases").sort_values(["arm", "case", "label"], ignore_index=True)
    pd.testing.assert_frame_equal(scores, expected)
    final = stamps(broken)
    assert {name: final.get(name) for name in made} == made
    for name in ("split", "dream_table", "tuning_scores"):
        pd.testing.assert_frame_equal(table(broken, name), table(finished, name))
    client = tracking(broken)
    experiment = client.get_experiment_by_name("dreamorph").experiment_id
    statuses = {r.info.status for r in client.search_runs([experiment], max_results=5000)}
    assert statuses == {"KILLED", "FINISHED"}
    kept = {".gitkeep", ".tiny.lock"}
    leftovers = [p for p in broken.root.glob("data/**/.*") if p.name not in kept]
    assert leftovers == []


def kill_once_there(workplace: Workplace, pattern: str) -> None:
    """Start a run and kill it without warning when something that was not there appears."""
    assert not list(workplace.root.glob(pattern)), f"{pattern} was there before"
    process = subprocess.Popen(
        workplace.command("--env", "tiny"),
        cwd=workplace.root,
        env=workplace.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and not list(workplace.root.glob(pattern)):
            assert time.monotonic() < deadline, f"there never was {pattern}"
            time.sleep(0.005)
        assert process.poll() is None, f"the run ended before {pattern} could be interrupted"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_recovery_of_the_known_truth_is_measured(finished: Workplace) -> None:
    (file,) = finished.root.glob("data/08_reporting/tiny/recovery.json")
    recovery = json.loads(file.read_text())
    assert len(recovery["registration"]["after_mean_mm"]) > 0
    assert 0 <= recovery["modes"]["explained"] <= 1


def test_a_network_averaged_with_the_fusion_is_their_mean(finished: Workplace) -> None:
    """Worked out again from what network and fusion say, on the common grid."""
    cohort = RecordDataset(str(finished.root / "data/03_primary/tiny/cohort")).load()
    arms = AtomicStore(str(finished.root / "data/06_models/tiny/arms")).load()
    plain = AtomicStore(str(finished.root / "data/07_model_output/tiny/plain_scores")).load()
    cases = table(finished, "cases")
    (key,) = (key for key in arms if key.startswith("dream-"))
    network = build(arms[key]).eval()
    given = yaml.safe_load((ROOT / "conf/base/parameters/train.yml").read_text())
    affine = AffineWarpConfig(**given["affine_warps"])
    views = Views.draw(EvaluationConfig().views, affine, cohort.spacing_mm)
    errors, alone = [], []
    for voted in plain:
        (case,) = plain[voted]["labels"]
        row = cohort.index_of(case)
        answer = predict(network, cohort.images[[row]], cohort.masks[[row]], views=views)[0]
        both = (answer + plain[voted]["probabilities"] / 255) / 2
        own = cases[(cases["arm"] == "dream+atlas") & (cases["case"] == case)]
        expected = own.sort_values("label")["dice"].to_numpy()
        errors += [np.abs(dices(both, cohort.labels[row, 0]) - expected).max()]
        alone += [np.abs(dices(answer, cohort.labels[row, 0]) - expected).max()]
    assert max(errors) < 1e-6
    assert max(alone) > 1e-3  # the network alone would not do


def dices(probabilities: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """Dice of every label on the common grid."""
    found = probabilities.argmax(0)
    pairs = [(found == label, true == label) for label in range(1, len(probabilities))]
    return np.array([2 * int((a & b).sum()) / int(a.sum() + b.sum()) for a, b in pairs])
