"""How many labelled volumes dreams are worth: the whole pipeline over draws of few subjects.

    python -m benchmarks.evidence --labelled 3,5,10,20 --draws 5 --seeds 2 --write

draws training subjects out of those that the preset `hippocampus` does not test on, gives
`kedro run` a manifest of them (n labelled volumes of n subjects, the rest unlabelled) and the same
test subjects every time. A draw that is finished is a part of
benchmarks/results/evidence_hippocampus.csv and is not done again; one that was interrupted goes on
where it stopped.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.cohorts import ROOT, real_data
from benchmarks.registration import as_markdown, write_section
from dreamorph.volumes.config import CohortConfig, SplitConfig, SubjectRule
from dreamorph.volumes.ingest import load_cohort

FOLDER = "Task04_Hippocampus"
RESULTS = ROOT / "benchmarks" / "results" / "evidence_hippocampus.csv"
PAGE, PICTURE = ROOT / "docs" / "evidence.md", ROOT / "docs" / "images" / "evidence_hippocampus.png"
WORK = ROOT / "data" / "benchmarks" / "evidence"
STEPS = ("ingest", "register", "prior", "dream", "tune", "train", "evaluate")
#: `kedro run` with parameters that its command line cannot carry, such as lists.
RUN = """
import json, sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(sys.argv[1])
with KedroSession.create(sys.argv[1], runtime_params=json.loads(sys.argv[2])) as session:
    session.run(pipeline_names=sys.argv[3:])
"""
#: The split of the preset, whose test subjects are those of every draw.
PRESET = SplitConfig(train_subjects=5, unlabelled_subjects=30)
UNLABELLED = 30
TRAINED = ("none", "classic", "elastic", "dream", "mix")
ARMS = (*TRAINED, "gated", "atlas", "gated+atlas")
NAMES = {
    "atlas": "multi-atlas fusion",
    "elastic": "tuned random warps",
    "mix": "dreams and random warps",
    "gated": "gated dreams",
    "gated+atlas": "gated dreams, averaged with fusion",
}
COLUMNS = ["labelled", "draw", "steps", "arm", "seed", "case", "subject", "label", "dice"]
BOOTSTRAPS = 2000


def cohort_table() -> pd.DataFrame:
    """Case, subject and the preset's split of every volume."""
    rule = SubjectRule(regex=r"hippocampus_(\d+)", cases_per_subject=2)
    config = CohortConfig(path=real_data() / FOLDER, subject=rule)
    return load_cohort(config, PRESET).table[["case", "subject", "split"]]


def manifest(table: pd.DataFrame, labelled: int, draw: int) -> pd.DataFrame:
    """Rows of a manifest: `labelled` volumes of as many subjects, others without their labels."""
    test = table["split"] == "test"
    pool = sorted(table.loc[~test, "subject"].unique())
    order = np.random.default_rng(draw).permutation(pool).tolist()
    train = table[table["subject"].isin(order[:labelled])].drop_duplicates("subject")
    rest = table[table["subject"].isin(order[labelled:])].sort_values(
        "subject", key=lambda column: column.map({s: k for k, s in enumerate(order)}), kind="stable"
    )
    parts = [
        train.assign(split="train"),
        rest.head(UNLABELLED).assign(split="unlabelled"),
        table[test],
    ]
    rows = pd.concat(parts, ignore_index=True)
    folder = real_data().resolve() / FOLDER
    image = rows["case"].map(lambda case: str(folder / "imagesTr" / f"{case}.nii.gz"))
    label = rows["case"].map(lambda case: str(folder / "labelsTr" / f"{case}.nii.gz"))
    return rows.assign(image=image, label=label.where(rows["split"] != "unlabelled", ""))


def run_draw(table: pd.DataFrame, labelled: int, draw: int, options: argparse.Namespace) -> None:
    """The pipeline on one draw; its results in a file of their own."""
    study = f"evidence_{labelled}_{draw}"
    file = WORK / f"{study}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    manifest(table, labelled, draw).to_csv(file, index=False)
    parameters = {
        "study": study,
        "cohort": {"path": str(file)},
        "training": {
            "steps": options.steps,
            "seeds": list(range(options.seeds)),
            "arms": TRAINED,
            "progress": False,
        },
    }
    command = [sys.executable, "-c", RUN, str(ROOT), json.dumps(parameters), *STEPS]
    with (WORK / f"{study}.log").open("w") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True)
    sys.stderr.write(f"{labelled} labelled, draw {draw}: done\n")


def collected(labelled: int, draw: int, options: argparse.Namespace) -> pd.DataFrame:
    """Scores of a finished draw; `gated` is what tuning recommended, random warps if nothing."""
    study = f"evidence_{labelled}_{draw}"
    cases = pd.read_csv(ROOT / "data" / "07_model_output" / study / "cases.csv")
    choice = json.loads((ROOT / "data" / "06_models" / study / "choice.json").read_text())
    arm = choice["recommended_arm"]
    arm = arm if arm in set(cases["arm"]) else "elastic"
    gated = [
        cases[cases["arm"] == f"{arm}{more}"].assign(arm=f"gated{more}") for more in ("", "+atlas")
    ]
    rows = pd.concat([cases, *gated]).assign(labelled=labelled, draw=draw, steps=options.steps)
    return rows.loc[rows["arm"].isin(ARMS), COLUMNS]


def known() -> pd.DataFrame:
    """All results so far."""
    return pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)


def finished(results: pd.DataFrame, options: argparse.Namespace) -> set[tuple[int, int]]:
    """Numbers of labelled volumes and draws that are there with so many steps and seeds."""
    own = results[results["steps"] == options.steps]
    seeds = own[own["arm"] == "dream"].groupby(["labelled", "draw"])["seed"].nunique()
    return {(int(n), int(d)) for (n, d), count in seeds.items() if count >= options.seeds}


def per_draw(results: pd.DataFrame) -> pd.Series:
    """Mean Dice by labelled, arm, draw and seed: over labels, then cases, then subjects."""
    levels = ["labelled", "arm", "draw", "seed"]
    by_case = results.groupby([*levels, "subject", "case"])["dice"].mean()
    return by_case.groupby([*levels, "subject"]).mean().groupby(levels).mean()


def bootstrapped(values: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap means of an arm: draws with replacement, and within each draw its seeds."""
    draws = [own.to_numpy(dtype=float) for _, own in values.groupby(level="draw")]
    means = []
    for _ in range(BOOTSTRAPS):
        picked = [draws[k] for k in rng.integers(len(draws), size=len(draws))]
        means.append(np.mean([rng.choice(own, size=len(own)).mean() for own in picked]))
    return np.array(means)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row an arm, one column a number of labelled volumes: mean and 95 % interval."""
    scores = per_draw(results)
    rows = []
    for arm in [arm for arm in ARMS if arm in set(results["arm"])]:
        row: dict[str, object] = {"arm": NAMES.get(arm, arm)}
        for labelled in sorted(results["labelled"].unique()):
            row[f"n = {labelled}"] = _cell(scores, int(labelled), arm)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(scores: pd.Series, labelled: int, arm: str) -> str:
    if (labelled, arm) not in scores.index.droplevel(["draw", "seed"]):
        return "-"
    own = scores.loc[labelled, arm]
    low, high = np.percentile(bootstrapped(own, np.random.default_rng(0)), [2.5, 97.5])
    mean = own.groupby(level="draw").mean().mean()
    return f"{mean:.4f} ({low:.4f} to {high:.4f}), {own.index.get_level_values('draw').nunique()}"


def worth(results: pd.DataFrame, arm: str) -> pd.DataFrame:
    """How many labelled volumes tuned random warps need to come as far as an arm at n.

    The curve of the random warps is joined by straight lines over log n. Beyond its ends there is
    no answer but "fewer" or "more".
    """
    means = per_draw(results).groupby(["labelled", "arm"]).mean().unstack("arm")
    curve = means["elastic"].dropna()
    ns, heights = curve.index.to_numpy(dtype=float), np.maximum.accumulate(curve.to_numpy())
    rows = []
    for labelled, score in means[arm].dropna().items():
        if score > heights[-1]:
            shown = f"more than {ns[-1]:g}"
        elif score < heights[0]:
            shown = f"fewer than {ns[0]:g}"
        else:
            shown = f"{np.exp(np.interp(score, heights, np.log(ns))):.1f}"
        lead = score - means.loc[labelled, "elastic"]
        rows.append({"n": labelled, f"{arm} - random warps": f"{lead:+.4f}", "worth n": shown})
    return pd.DataFrame(rows)


def draw_curves(results: pd.DataFrame) -> None:
    """The curves, with bootstrap intervals."""
    scores = per_draw(results)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for arm in [arm for arm in ARMS if arm in set(results["arm"]) and arm != "none"]:
        ns = sorted(scores.xs(arm, level="arm").index.get_level_values("labelled").unique())
        parts = [scores.loc[n, arm] for n in ns]
        means = [part.groupby(level="draw").mean().mean() for part in parts]
        limits = [
            np.percentile(bootstrapped(part, np.random.default_rng(0)), [2.5, 97.5])
            for part in parts
        ]
        low, high = np.array(limits).T
        axes.errorbar(ns, means, [means - low, high - means], label=NAMES.get(arm, arm), capsize=2)
    axes.set_xscale("log")
    axes.set_xticks(sorted(results["labelled"].unique()), sorted(results["labelled"].unique()))
    axes.set_xlabel("labelled volumes")
    axes.set_ylabel("mean Dice of test subjects")
    axes.legend()
    figure.savefig(PICTURE, dpi=130)


def _text(results: pd.DataFrame, options: argparse.Namespace) -> Iterator[str]:
    yield (
        "`python -m benchmarks.evidence`; mean Dice of the test subjects, 95 % interval from a"
        " bootstrap over draws and, within draws, seeds; then the number of draws.\n\n"
    )
    yield as_markdown(summary(results))
    for arm in ("dream", "gated"):
        if arm in set(results["arm"]):
            yield f"\n\n{as_markdown(worth(results, arm))}"
    yield "\n"


def _numbers(text: str) -> Sequence[int]:
    return [int(word) for word in text.split(",")]


def main(arguments: list[str] | None = None) -> None:
    """Run the draws that are missing, print the tables, write them into the docs if asked."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--labelled", type=_numbers, default=[3, 5, 10, 20])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--jobs", type=int, default=1, help="draws at once, for a GPU")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    options = parser.parse_args(arguments)
    done = finished(known(), options)
    missing = [(n, d) for d in range(options.draws) for n in options.labelled if (n, d) not in done]
    table = cohort_table() if missing else pd.DataFrame()

    def work(job: tuple[int, int]) -> tuple[int, int]:
        run_draw(table, *job, options)
        return job

    with ThreadPoolExecutor(options.jobs) as pool:
        for job in pool.map(work, missing):
            RESULTS.parent.mkdir(exist_ok=True)
            pd.concat([known(), collected(*job, options)]).to_csv(RESULTS, index=False)
    results = known()
    results = results[results["steps"] == options.steps]
    if results.empty:
        raise SystemExit("no draw is finished")
    text = "".join(_text(results, options))
    sys.stdout.write(text)
    if options.write:
        draw_curves(results)
        write_section(PAGE, "hippocampus", text)


if __name__ == "__main__":
    main()
