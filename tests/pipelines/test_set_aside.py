"""Pairs that failed: what they no longer join is left out, said aloud, and breaks nothing later."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd

from tests.pipelines.conftest import Workplace, make_workplace

LATER = "prior,dream,train,evaluate,audit,report"
REASON = "folds in 7 voxels"


def with_failed_pairs(finished: Workplace, folder: Path, cases: int) -> tuple[Workplace, set[str]]:
    """A copy of a run in which all pairs of some labelled volumes were set aside."""
    workplace = make_workplace(folder / "failed", finished.root / "empty_mlflow.db")
    shutil.copytree(finished.root / "data", workplace.root / "data")
    (split,) = workplace.root.glob("data/*/tiny/split.csv")
    table = pd.read_csv(split)
    chosen = set(table.loc[table["split"] == "train", "case"].iloc[:cases])
    (file,) = workplace.root.glob("data/*/tiny/pair_table.csv")
    pairs = pd.read_csv(file)
    planted = pairs["fixed_case"].isin(chosen) | pairs["moving_case"].isin(chosen)
    pairs["set_aside"] = planted.map({True: REASON, False: ""})
    pairs.to_csv(file, index=False)
    return workplace, chosen


def test_a_member_without_trusted_pairs_is_left_out_and_the_run_goes_on(
    finished: Workplace, tmp_path: Path
) -> None:
    workplace, chosen = with_failed_pairs(finished, tmp_path, 1)
    # few pairs are left to say how much a volume may change: gentle dreams stay within
    result = workplace.run(
        "--env", "tiny", "--pipelines", LATER, "--params", "dreaming.scale=0.2,dreaming.pool=24"
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (said,) = [line for line in result.stderr.splitlines() if "leaves out" in line]
    assert "cannot be sources of dreams" in said
    assert chosen <= set(re.split(r"[\s,:;]+", said))
    (file,) = workplace.root.glob("data/*/tiny/prior_diagnostics.json")
    diagnostics = json.loads(file.read_text())
    assert diagnostics["left_out"] >= 1
    assert diagnostics["members"] + diagnostics["left_out"] == 6
    (file,) = workplace.root.glob("data/*/tiny/dream_table.csv")
    assert not chosen & set(pd.read_csv(file)["source"])
    (file,) = workplace.root.glob("data/*/tiny/checks.csv")
    lineage = pd.read_csv(file).set_index("name").loc["lineage"]
    assert lineage["verdict"] == "pass"
    page = (workplace.root / "data/08_reporting/tiny/report.html").read_text()
    assert "left out of the prior" in page
    assert re.search(r"\d+ of \d+ pairs were set aside \(\d+ . folds in … voxels\)", page)
    assert page.count(REASON) == diagnostics["pairs_set_aside"]
    assert "could not be drawn" not in page


def test_too_few_joined_volumes_stop_the_run_with_one_line(
    finished: Workplace, tmp_path: Path
) -> None:
    workplace, _ = with_failed_pairs(finished, tmp_path, 4)
    result = workplace.run("--env", "tiny", "--pipelines", "prior,dream")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert "1 of 6 volumes" in last
    assert "pair_table.csv" in last


def test_no_accepted_dream_stops_the_run_with_one_line(finished: Workplace, tmp_path: Path) -> None:
    workplace = make_workplace(tmp_path / "none", finished.root / "empty_mlflow.db")
    shutil.copytree(finished.root / "data", workplace.root / "data")
    (file,) = workplace.root.glob("data/*/tiny/dream_table.csv")
    dreams = pd.read_csv(file).assign(accepted=False, reason="topology; provenance")
    dreams.to_csv(file, index=False)
    result = workplace.run("--env", "tiny", "--pipelines", "audit")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert "none of the 12 dreams passed the gate (topology 12)" in last
