"""How many labelled volumes dreams are worth: the whole pipeline over draws of few subjects.

    python -m benchmarks.evidence --data hippocampus --draws 5 --seeds 2 --write

draws training subjects out of those that the preset of that name does not test on, gives
`kedro run` n labelled volumes of n subjects, others unlabelled, and the same test subjects every
time. A draw that is finished is a part of benchmarks/results/evidence_NAME.csv and is not done
again; one that was interrupted goes on where it stopped.

With --in-memory the same steps run without Kedro's files and tracking, --jobs draws at once, each
in a process of its own: for a GPU, which they share. An interrupted draw then starts anew.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import draws
from benchmarks.cohorts import ROOT, real_data
from benchmarks.registration import as_markdown, write_section
from dreamorph.evaluation.classification import accuracy, auc
from dreamorph.parameters import Parameters
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import assign_splits
from dreamorph.volumes.validation import validate

PAGE = ROOT / "docs" / "evidence.md"
WORK = ROOT / "data" / "benchmarks" / "evidence"
STEPS = ("ingest", "register", "prior", "dream", "tune", "train", "evaluate")
#: `kedro run` with parameters that its command line cannot carry, such as lists.
RUN = """
import json, sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
bootstrap_project(sys.argv[1])
root, env, params = sys.argv[1:4]
with KedroSession.create(root, env=env, runtime_params=json.loads(params)) as session:
    session.run(pipeline_names=sys.argv[4:])
"""
#: Labelled volumes that a prior can be learned from, and a gate set.
FEWEST = 3
TRAINED = ("none", "classic", "elastic", "dream", "learned")
ARMS = (*TRAINED, "gated", "atlas", "gated+atlas", "shape_features")
NAMES = {
    "atlas": "multi-atlas fusion",
    "shape_features": "plain classifier on shape features",
    "elastic": "tuned random warps",
    "learned": "tuned warps in learned directions",
    "gated": "gated dreams",
    "gated+atlas": "gated dreams, averaged with fusion",
}
KEYS = ["labelled", "draw", "steps", "arm", "seed", "case", "subject"]
MEASURES = {"dice": "Dice", "auc": "AUC", "accuracy": "accuracy"}
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Study:
    """A data set, by the name of its preset.

    Attributes:
        name: of the preset.
        source: its folder or file among the real data.
        labelled: numbers of labelled volumes.
        measures: columns of its results; the first one counts.
    """

    name: str
    source: str
    labelled: tuple[int, ...]
    measures: tuple[str, ...] = ("dice",)

    @property
    def results(self) -> Path:
        """Where its raw results are kept."""
        return ROOT / "benchmarks" / "results" / f"evidence_{self.name}.csv"

    @property
    def picture(self) -> Path:
        """Where its curves are drawn."""
        return ROOT / "docs" / "images" / f"evidence_{self.name}.png"

    @property
    def segments(self) -> bool:
        """Whether labels are learned, not classes."""
        return self.measures == ("dice",)

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters of its preset, on its data."""
        path = str((real_data() / self.source).resolve())
        return draws.read_parameters(ROOT, self.name, cohort={"path": path})


STUDIES = {
    study.name: study
    for study in (
        Study("hippocampus", "Task04_Hippocampus", (3, 5, 10, 20)),
        Study("ct", "Dataset040_STS_CT", (3, 5)),
        Study("adrenal", "adrenalmnist3d_64.npz", (24, 59, 119, 1188), ("auc", "accuracy")),
    )
}


def cohort_table(study: Study) -> pd.DataFrame:
    """Case, subject, files, all labels and the preset's split of every volume."""
    given = study.parameters
    checked = validate(scan(given.cohort), given.cohort)
    table = assign_splits(checked.good, given.split, checked.quarantine)
    # a split takes the labels away from those that are to be unlabelled; each draw has others
    labels = checked.good.set_index("case")["label"]
    return table[["case", "subject", "split", "image"]].assign(label=table["case"].map(labels))


def manifest(table: pd.DataFrame, labelled: int, draw: int, unlabelled: int) -> pd.DataFrame:
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
        rest.head(unlabelled).assign(split="unlabelled"),
        table[test],
    ]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(label=rows["label"].where(rows["split"] != "unlabelled", ""))


def folder_of(study: Study, labelled: int, draw: int) -> str:
    """Name of a draw among the results of runs."""
    return f"evidence_{study.name}_{labelled}_{draw}"


def run_draw(
    study: Study, table: pd.DataFrame, labelled: int, draw: int, options: argparse.Namespace
) -> None:
    """The pipeline on one draw; its results in a folder of their own."""
    name = folder_of(study, labelled, draw)
    file = WORK / f"{name}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    everyone = {"train_subjects": None, "unlabelled_subjects": None, "test_subjects": None}
    if study.segments:
        unlabelled = study.parameters.split.unlabelled_subjects
        manifest(table, labelled, draw, unlabelled).to_csv(file, index=False)
        source: dict[str, Any] = {"cohort": {"path": str(file)}, "split": everyone}
    else:
        split = {"train_subjects": labelled, "test_subjects": None, "seed": draw}
        path = str((real_data() / study.source).resolve())
        source = {"cohort": {"path": path}, "split": split}
    parameters = source | {
        "study": name,
        "training": {
            "steps": options.steps,
            "seeds": list(range(options.seeds)),
            "arms": TRAINED,
            "progress": False,
        },
    }
    command = [sys.executable, "-c", RUN, str(ROOT), study.name, json.dumps(parameters), *STEPS]
    with (WORK / f"{name}.log").open("w") as log:
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=True)
    sys.stderr.write(f"{study.name}, {labelled} labelled, draw {draw}: done\n")


def draw_in_memory(
    study: Study, labelled: int, draw: int, steps: int, seeds: Sequence[int]
) -> tuple[int, int]:
    """All steps of one draw in this process; its rows are kept as they come."""
    torch.set_num_threads(1)
    file = part_of(study, labelled, draw)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    change = {"steps": steps, "seeds": tuple(seeds), "arms": TRAINED, "progress": False}
    training = study.parameters.training.model_copy(update=change)
    given = study.parameters.model_copy(update={"training": training})
    everyone = draws.whole_cohort(given)
    table = everyone.table[["case", "subject", "split"]].assign(image="", label="")
    unlabelled = given.split.unlabelled_subjects or 0
    cohort = draws.draw_of(everyone, manifest(table, labelled, draw, unlabelled))
    start = time.monotonic()

    def tell(what: str) -> None:
        name = f"{study.name}, {labelled} labelled, draw {draw}"
        sys.stderr.write(f"{name}, {time.monotonic() - start:.0f} s: {what}\n")

    for rows in draws.run(cohort, given, tell):
        named = rows.assign(labelled=labelled, draw=draw, steps=steps)
        named = named[named["arm"].isin(ARMS)][[*KEYS, "label", "dice"]]
        named.to_csv(file, mode="a", header=not file.exists(), index=False)
    return labelled, draw


def part_of(study: Study, labelled: int, draw: int) -> Path:
    """Rows of a draw that is worked on in memory."""
    return WORK / "parts" / f"{folder_of(study, labelled, draw)}.csv"


def collected(study: Study, labelled: int, draw: int, options: argparse.Namespace) -> pd.DataFrame:
    """Scores of a finished draw; `gated` is what tuning recommended, random warps if nothing."""
    name = folder_of(study, labelled, draw)
    cases = pd.read_csv(ROOT / "data" / "07_model_output" / name / "cases.csv")
    choice = json.loads((ROOT / "data" / "06_models" / name / "choice.json").read_text())
    arm = choice["recommended_arm"]
    arm = arm if arm in set(cases["arm"]) else "elastic"
    gated = [
        cases[cases["arm"] == f"{arm}{more}"].assign(arm=f"gated{more}") for more in ("", "+atlas")
    ]
    rows = pd.concat([cases, *gated]).assign(labelled=labelled, draw=draw, steps=options.steps)
    rows = rows[rows["arm"].isin(ARMS)]
    if study.segments:
        return rows[[*KEYS, "label", *study.measures]]
    return _classified(rows)


def _classified(cases: pd.DataFrame) -> pd.DataFrame:
    """One row a network: how well it tells the classes apart."""
    columns = sorted(name for name in cases.columns if name.startswith("p_"))
    number = {name.removeprefix("p_"): k for k, name in enumerate(columns)}
    rows = []
    for keys, part in cases.groupby(KEYS[:5], sort=False):
        true, probabilities = part["class"].map(number).to_numpy(), part[columns].to_numpy()
        scores = {"auc": auc(true, probabilities), "accuracy": accuracy(true, probabilities)}
        named = dict(zip(KEYS[:5], keys, strict=True))
        rows.append(named | {"case": "all", "subject": "all"} | scores)
    return pd.DataFrame(rows)


def known(study: Study) -> pd.DataFrame:
    """All results so far."""
    file = study.results
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=[*KEYS, *study.measures])


def finished(results: pd.DataFrame, options: argparse.Namespace) -> set[tuple[int, int]]:
    """Numbers of labelled volumes and draws that are there with so many steps and seeds."""
    own = results[results["steps"] == options.steps]
    seeds = own[own["arm"] == "dream"].groupby(["labelled", "draw"])["seed"].nunique()
    return {(int(n), int(d)) for (n, d), count in seeds.items() if count >= options.seeds}


def per_draw(results: pd.DataFrame, measure: str = "dice") -> pd.Series:
    """Mean score by labelled, arm, draw and seed: over labels, then cases, then subjects."""
    levels = ["labelled", "arm", "draw", "seed"]
    by_case = results.groupby([*levels, "subject", "case"])[measure].mean()
    return by_case.groupby([*levels, "subject"]).mean().groupby(levels).mean()


def bootstrapped(values: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap means of an arm: draws with replacement, and within each draw its seeds."""
    draws = [own.to_numpy(dtype=float) for _, own in values.groupby(level="draw")]
    means = []
    for _ in range(BOOTSTRAPS):
        picked = [draws[k] for k in rng.integers(len(draws), size=len(draws))]
        means.append(np.mean([rng.choice(own, size=len(own)).mean() for own in picked]))
    return np.array(means)


def summary(results: pd.DataFrame, measure: str = "dice") -> pd.DataFrame:
    """One row an arm, one column a number of labelled volumes: mean and 95 % interval."""
    scores = per_draw(results, measure)
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


def worth(results: pd.DataFrame, arm: str, measure: str = "dice") -> pd.DataFrame:
    """How many labelled volumes tuned random warps need to come as far as an arm at n.

    The curve of the random warps is joined by straight lines over log n. Beyond its ends there is
    no answer but "fewer" or "more".
    """
    means = per_draw(results, measure).groupby(["labelled", "arm"]).mean().unstack("arm")
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


def draw_curves(study: Study, results: pd.DataFrame) -> None:
    """The curves, with bootstrap intervals."""
    scores = per_draw(results, study.measures[0])
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
    axes.set_ylabel(f"mean {MEASURES[study.measures[0]]} of test subjects")
    axes.legend()
    figure.savefig(study.picture, dpi=130)


def _text(study: Study, results: pd.DataFrame, options: argparse.Namespace) -> Iterator[str]:
    yield (
        f"`python -m benchmarks.evidence --data {study.name}`, {options.steps} steps of the"
        " preset's batches; 95 % intervals from a bootstrap over draws and, within draws, seeds;"
        " then the number of draws.\n"
    )
    for measure in study.measures:
        yield f"\nMean {MEASURES[measure]} of the test subjects:\n\n"
        yield as_markdown(summary(results, measure)) + "\n"
    for arm in ("dream", "learned", "gated"):
        if arm in set(results["arm"]):
            yield f"\n{as_markdown(worth(results, arm, study.measures[0]))}\n"


def _numbers(text: str) -> Sequence[int]:
    return [int(word) for word in text.split(",")]


def _found(
    study: Study, missing: list[tuple[int, int]], options: argparse.Namespace
) -> Iterator[pd.DataFrame]:
    """Scores of the missing draws, each as soon as it is finished."""
    if options.in_memory:
        if not study.segments:
            raise SystemExit(f"{study.name} learns classes: leave --in-memory out")
        seeds = range(options.seeds)
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            begun = [
                pool.submit(draw_in_memory, study, *job, options.steps, seeds) for job in missing
            ]
            for future in as_completed(begun):
                yield pd.read_csv(part_of(study, *future.result()))
        return
    table = cohort_table(study) if missing and study.segments else pd.DataFrame()
    work = partial(run_draw, study, table, options=options)
    with ThreadPoolExecutor(options.jobs) as pool:
        for job, _ in zip(missing, pool.map(lambda job: work(*job), missing), strict=True):
            yield collected(study, *job, options)


def main(arguments: list[str] | None = None) -> None:
    """Run the draws that are missing, print the tables, write them into the docs if asked."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", choices=sorted(STUDIES), default="hippocampus")
    parser.add_argument("--labelled", type=_numbers, help="numbers of labelled volumes, as 3,5")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--steps", type=int, help="optimiser steps; those of the preset if left out"
    )
    parser.add_argument("--jobs", type=int, default=1, help="draws at once, for a GPU")
    parser.add_argument("--in-memory", action="store_true", help="without files and tracking")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    options = parser.parse_args(arguments)
    study = STUDIES[options.data]
    options.steps = options.steps or study.parameters.training.steps
    labelled = options.labelled or study.labelled
    if min(labelled) < FEWEST:
        raise SystemExit(
            f"{min(labelled)} labelled volumes: nothing can be dreamed of under {FEWEST}"
        )
    done = finished(known(study), options)
    missing = [(n, d) for d in range(options.draws) for n in labelled if (n, d) not in done]
    for rows in _found(study, missing, options):
        study.results.parent.mkdir(exist_ok=True)
        pd.concat([known(study), rows]).to_csv(study.results, index=False)
    results = known(study)
    results = results[results["steps"] == options.steps]
    if results.empty:
        raise SystemExit("no draw is finished")
    text = "".join(_text(study, results, options))
    sys.stdout.write(text)
    if options.write:
        draw_curves(study, results)
        write_section(PAGE, study.name, text)


if __name__ == "__main__":
    main()
