"""How many labelled volumes dreams are worth, over draws of few subjects.

    python -m benchmarks.evidence --data hippocampus --draws 5 --seeds 2 --jobs 2 --write

draws training subjects out of those that the preset of that name does not test on, learns from n
labelled volumes of n subjects and from others without their labels, and scores the same test
subjects every time. --jobs processes share the work in pieces (see `benchmarks.pieces`), on a GPU
or on a CPU's cores; every piece that is finished is kept in benchmarks/results/evidence_NAME.csv
or evidence_NAME_tuning.csv, or below data/benchmarks, and not done again. Parameters that differ
from those of the results that are kept stop it; changes of the code do not.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import draws
from benchmarks.cohorts import ROOT, real_data
from benchmarks.curves import (
    ALONE,
    MEASURES,
    RANDOM,
    ROUGH,
    STRONG,
    differences,
    draw_curves,
    summary,
    worth,
)
from benchmarks.pieces import Piece, Processes, Workshop, ways_of
from benchmarks.registration import around_section, as_markdown, write_section
from benchmarks.settings import check_settings
from dreamorph.parameters import Parameters
from dreamorph.pipelines.evaluate.nodes import ATLAS, SHAPE
from dreamorph.pipelines.tune.nodes import FOLDS
from dreamorph.training.config import ArmName
from dreamorph.training.data import Task
from dreamorph.training.tuning import COLUMNS, SCALED, choose, counted
from dreamorph.volumes.splits import FEWEST_TRAINED

PAGE = ROOT / "docs" / "evidence.md"
SETTINGS = ROOT / "benchmarks" / "results" / "evidence_settings.json"
WORK = ROOT / "data" / "benchmarks" / "evidence"
#: Trained first what the question is about.
TRAINED: tuple[ArmName, ...] = ("elastic", "learned", "dream", "classic", "none")
KEYS = ["labelled", "draw", "steps", "arm", "energy", "seed", "case", "subject"]
TUNING = ["labelled", "draw", "steps", *COLUMNS]


@dataclass(frozen=True)
class Beside:
    """Another study, whose draws these are and whose networks stand beside these; nothing is tuned.

    Attributes:
        study: its name, and that of the preset.
        ending: of the names of arms trained here.
        alone: whether draws have no unlabelled volumes here.
        changes: of parameters, by group.
    """

    study: str
    ending: str
    alone: bool = False
    changes: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Draws of a data set.

    Attributes:
        name: of its preset, if it is not `beside` another one.
        source: its folder or file among the real data.
        labelled: numbers of labelled volumes.
        measures: columns of its results; the first one counts.
        counts: number and name of the label that counts; all where there is none.
        arms: trained in it.
        width: of random and learned warps as a share of the dreams'; None is as rough as these.
        beside: the study whose draws these are, learned from in another way.
    """

    name: str
    source: str
    labelled: tuple[int, ...]
    measures: tuple[str, ...] = ("dice",)
    counts: tuple[int, str] | None = None
    arms: tuple[ArmName, ...] = TRAINED
    width: float | None = None
    beside: Beside | None = None

    @property
    def alone(self) -> bool:
        """Whether draws have no unlabelled volumes."""
        return self.beside is not None and self.beside.alone

    @property
    def results(self) -> Path:
        """Where its raw results are kept."""
        return ROOT / "benchmarks" / "results" / f"evidence_{self.name}.csv"

    @property
    def tuning(self) -> Path:
        """Where the scores of its cross-validations are kept."""
        return self.results.with_name(f"evidence_{self.name}_tuning.csv")

    @property
    def picture(self) -> Path:
        """Where its curves are drawn."""
        return ROOT / "docs" / "images" / f"evidence_{self.name}.png"

    @property
    def classes(self) -> bool:
        """Whether classes are learned, not labels."""
        return self.measures != ("dice",)

    @property
    def task(self) -> Task:
        """What is learned."""
        return "classification" if self.classes else "segmentation"

    @property
    def plain(self) -> str:
        """Arm of the plain method."""
        return SHAPE if self.classes else ATLAS

    @property
    def columns(self) -> list[str]:
        """Of its results."""
        return [*KEYS, *(() if self.classes else ("label",)), *self.measures]

    def counted(self, results: pd.DataFrame) -> pd.DataFrame:
        """The results of the label that counts."""
        return results[results["label"] == self.counts[0]] if self.counts else results

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters of its preset, on its data."""
        path = str((real_data() / self.source).resolve())
        preset, changes = self.name, {"elastic_warps": {"width": self.width}}
        if self.beside is not None:
            preset = self.beside.study
            changes["elastic_warps"] |= self.beside.changes.get("elastic_warps", {})
            changes = {"tuning": {"folds": 0}, **self.beside.changes, **changes}
        return draws.read_parameters(ROOT, preset, cohort={"path": path}, **changes)

    def arms_of(self, labelled: int) -> list[ArmName]:
        """The arms that can be trained with as many labelled volumes."""
        dreams = labelled >= FEWEST_TRAINED
        return [arm for arm in self.arms if dreams or arm != "dream"]


STUDIES = {
    study.name: study
    for study in (
        Study("hippocampus", "Task04_Hippocampus", (1, 3, 5, 10, 20)),
        Study("ct", "Dataset040_STS_CT", (3, 5), counts=(2, "bone")),
        Study(
            "hippocampus_alone",
            "Task04_Hippocampus",
            (3,),
            arms=("learned", "dream"),
            beside=Beside("hippocampus", ALONE, alone=True),
        ),
        Study(
            "hippocampus_strong",
            "Task04_Hippocampus",
            (3, 5),
            arms=("elastic", "learned"),
            beside=Beside("hippocampus", STRONG, changes={"elastic_warps": {"energy": 8.0}}),
        ),
        Study(
            "hippocampus_rough",
            "Task04_Hippocampus",
            (1, 3, 5, 10, 20),
            arms=("elastic", "learned"),
            width=0.4,
            beside=Beside("hippocampus", ROUGH),
        ),
        Study("adrenal", "adrenalmnist3d_64.npz", (24, 59, 119, 1188), ("auc", "accuracy")),
    )
}


def known(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """All of a table so far."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=list(columns))


def add(rows: pd.DataFrame, file: Path) -> None:
    """More lines at the end of a table, in one write."""
    file.parent.mkdir(exist_ok=True)
    text = rows.to_csv(index=False, header=not file.exists())
    with file.open("a") as out:
        out.write(text)


class Progress:
    """The pieces of a study: which are missing, and the tables that keep their scores."""

    def __init__(self, study: Study, options: argparse.Namespace) -> None:
        self.study, self.options = study, options
        change = {"steps": options.steps, "progress": False}
        training = study.parameters.training.model_copy(update=change)
        self.given = study.parameters.model_copy(update={"training": training})
        self.shop = Workshop(self.given, WORK / study.name, study.classes, study.alone)
        tuned, trained = self._of(study.tuning, TUNING), self._of(study.results, KEYS)
        self.done = {Piece("tune", *key) for key in _keys(tuned, "fold")}
        self.done |= {Piece("train", *key[:-1], 0, key[-1]) for key in _keys(trained, "seed")}
        plain = _keys(trained[trained["arm"] == study.plain], "seed")
        self.done |= {Piece("plain", *key[:2]) for key in plain}

    def complete(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Do all that is missing of some draws, the first draws first, some pieces at a time."""
        with Processes(self.shop, self.options.jobs) as processes:
            for piece, rows in processes.each(lambda: self._ready(jobs)):
                at = {"labelled": piece.labelled, "draw": piece.draw, "steps": self.options.steps}
                if piece.kind == "tune":
                    add(rows.assign(**at)[TUNING], self.study.tuning)
                elif not rows.empty and piece not in self.done:
                    own = rows.assign(**at, energy=piece.energy)[self.study.columns]
                    add(own, self.study.results)
                self.done.add(piece)
                sys.stderr.write(f"{self.study.name}: {piece} done\n")

    def scores(self) -> pd.DataFrame:
        """All scores of these steps at the chosen strengths, and those of what is recommended."""
        rows = self._of(self.study.results, self.study.columns)
        tables = []
        for (labelled, draw), own in rows.groupby(["labelled", "draw"]):
            if (own["arm"] == self.study.plain).all():
                continue  # not tuned yet, perhaps
            energies, recommended = self._chosen(int(labelled), int(draw))
            base = own["arm"].str.removesuffix("+atlas")
            right = own["energy"] == base.map(energies).fillna(0.0)
            tables.append(own[right])
            if recommended is not None:
                named = own[right & (base == recommended)]
                again = named["arm"].str.replace(recommended, "gated")
                tables.append(named.assign(arm=again))
        return pd.concat(tables, ignore_index=True) if tables else rows

    def _of(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        table = known(file, columns)
        return table[table["steps"] == self.options.steps]

    def _ready(self, jobs: Sequence[tuple[int, int]]) -> Iterator[Piece]:
        for job in jobs:
            if self._complete(*job):
                continue
            first = [Piece("prepare", *job), *([] if self.study.beside else [Piece("plain", *job)])]
            missing = [piece for piece in first if not self.shop.done(piece)]
            missing = missing or self._missing(self.shop.candidates(*job))
            yield from missing or self._missing(self._to_train(*job))

    def _complete(self, labelled: int, draw: int) -> bool:
        """Whether the tables hold all of a draw; its files need not be there then."""
        own = {piece for piece in self.done if piece[1:3] == (labelled, draw)}
        trained = {(piece.arm, piece.seed) for piece in own if piece.kind == "train"}
        wanted = {
            (arm, seed)
            for arm in self.study.arms_of(labelled)
            for seed in range(self.options.seeds)
        }
        tuned = {(piece.arm, piece.energy, piece.fold) for piece in own if piece.kind == "tune"}
        asked = FOLDS if self.given.tuning.folds is None else self.given.tuning.folds
        folds = range(min(asked, labelled) if labelled >= FEWEST_TRAINED else 0)
        ways = ways_of(self.given, self.study.classes)
        # not every fold has dreams
        to_tune = {(w.arm, w.energy, fold) for w in ways for fold in folds if w.arm != "dream"}
        if self.study.beside is None and Piece("plain", labelled, draw) not in own:
            return False
        if not wanted <= trained or not to_tune <= tuned:
            return False
        return not self._missing(self._to_train(labelled, draw))

    def _missing(self, pieces: Iterable[Piece]) -> list[Piece]:
        return [piece for piece in pieces if piece not in self.done]

    def _chosen(self, labelled: int, draw: int) -> tuple[dict[ArmName, float], str | None]:
        """Energies, and the recommended arm; None before it is tuned."""
        table = self._of(self.study.tuning, TUNING)
        table = table[(table["labelled"] == labelled) & (table["draw"] == draw)]
        scores = counted(table, self.given.tuning.labels)
        choice = choose(scores, self.given.elastic_warps.energy, self.study.task)
        return choice.energies, None if table.empty else choice.recommended or "elastic"

    def _to_train(self, labelled: int, draw: int) -> Iterator[Piece]:
        energies, _ = self._chosen(labelled, draw)
        for seed in range(self.options.seeds):
            for arm in self.study.arms_of(labelled):
                energy = energies[arm] if arm in SCALED else 0.0
                yield Piece("train", labelled, draw, arm, energy, 0, seed)


def _keys(table: pd.DataFrame, last: str) -> Iterator[tuple]:
    """Labelled, draw, arm, energy and one more of the lines of a table, each once."""
    columns = ["labelled", "draw", "arm", "energy", last]
    return table[columns].drop_duplicates().itertuples(index=False, name=None)


def _text(study: Study, results: pd.DataFrame, options: argparse.Namespace) -> Iterator[str]:
    yield (
        f"`python -m benchmarks.evidence --data {study.name}`, {options.steps} steps of the"
        " preset's batches; 95 % intervals from a bootstrap over draws and, within draws, seeds;"
        " then the numbers of draws and of networks.\n"
    )
    if study.counts:
        yield f"\nMean {MEASURES['dice']} of all labels of the test subjects:\n\n"
        yield as_markdown(summary(results)) + "\n"
        results = study.counted(results)
        yield f"\nOf {study.counts[1]}, here and below:\n\n{as_markdown(summary(results))}\n"
    else:
        for measure in study.measures:
            yield f"\nMean {MEASURES[measure]} of the test subjects:\n\n"
            yield as_markdown(summary(results, measure)) + "\n"
    if study.beside is not None:
        pairs = compared(study.arms, study.beside.ending)
        yield f"\n{as_markdown(differences(results, pairs, study.measures[0]))}\n"
        return
    for arm in ("dream", "learned", "gated"):
        if arm in set(results["arm"]):
            yield f"\n{as_markdown(worth(results, arm, study.measures[0]))}\n"


def compared(arms: Sequence[str], ending: str) -> list[tuple[str, str]]:
    """Pairs of arms: as they are and with the ending; then all against all random warps."""
    pairs = [(arm, f"{arm}{ending}") for arm in arms]
    rivals = pairs[arms.index(RANDOM)] if RANDOM in arms else (RANDOM,)
    shown = [arm for pair in pairs for arm in pair if arm not in rivals]
    return pairs + [(arm, rival) for arm in shown for rival in rivals]


def beside(own: pd.DataFrame, whole: pd.DataFrame, ending: str) -> pd.DataFrame:
    """Networks of a study, renamed, and those of the same draws that they stand beside."""
    trained = own[own["arm"].isin(TRAINED)]
    draws = trained[["labelled", "draw"]].drop_duplicates()
    shown = whole[whole["arm"].isin({RANDOM, *trained["arm"]})]
    renamed = trained.assign(arm=trained["arm"] + ending)
    return pd.concat([shown.merge(draws, on=["labelled", "draw"]), renamed], ignore_index=True)


def _numbers(text: str) -> Sequence[int]:
    return [int(word) for word in text.split(",")]


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
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the work")
    parser.add_argument(
        "--mix", action="store_true", help="add to results of other parameters all the same"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    options = parser.parse_args(arguments)
    study = STUDIES[options.data]
    options.steps = options.steps or study.parameters.training.steps
    labelled = options.labelled or study.labelled
    if min(labelled) < 1:
        raise SystemExit(f"{min(labelled)} labelled volumes: nothing can be learned of under one")
    check_settings(study.name, study.parameters, SETTINGS, options.mix)
    if options.write:
        around_section(PAGE, study.name)
    progress = Progress(study, options)
    progress.complete([(n, d) for d in range(options.draws) for n in labelled])
    results = progress.scores()
    if results.empty:
        raise SystemExit("no draw is finished")
    if study.beside is not None:
        whole = Progress(STUDIES[study.beside.study], options).scores()
        results = beside(results, whole, study.beside.ending)
    text = "".join(_text(study, results, options))
    sys.stdout.write(text)
    if options.write:
        if study.beside is None:
            draw_curves(study.counted(results), study.measures[0], study.picture)
        write_section(PAGE, study.name, text)


if __name__ == "__main__":
    main()
