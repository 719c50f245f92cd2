"""Pieces of the evidence's work, each done by one of several processes."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks import draws
from dreamorph.fingerprint import fingerprint
from dreamorph.parameters import Parameters
from dreamorph.training.config import ArmName
from dreamorph.training.tuning import Candidate, candidates
from dreamorph.volumes.cohort import Cohort


class Piece(NamedTuple):
    """What one process does at a time: prepare a draw, the plain method, or train a network."""

    kind: Literal["prepare", "plain", "tune", "train"]
    labelled: int
    draw: int
    arm: ArmName = "elastic"
    energy: float = 0.0
    fold: int = 0
    seed: int = 0


def ways_of(given: Parameters, classes: bool) -> list[Candidate]:
    """What stands to choice in a draw; ways without a strength are noted with one of 1."""
    strengths = given.tuning.strengths(given.elastic_warps.energy)
    tuning = given.tuning.model_copy(update={"energies": strengths})
    return candidates(tuning, 1.0, "classification" if classes else "segmentation")


class Workshop:
    """Does pieces; what prepares a draw is kept in a folder.

    `classes` says that classes are learned, not labels; `alone`, that draws have no unlabelled
    volumes, and the same labelled ones and test subjects as with them.
    """

    def __init__(
        self, given: Parameters, folder: Path, classes: bool = False, alone: bool = False
    ) -> None:
        self.given, self.folder, self.classes, self.alone = given, folder, classes, alone
        known = fingerprint(
            given.registration, given.pairing, given.prior, given.dreaming,
            given.audit.of_the_gate(), given.tuning.folds, given.tuning.pool, given.tuning.seed,
            given.cohort.model_dump(mode="json", exclude={"path"}),
            given.split, given.shape_classifier if classes else given.atlas_fusion,
        )  # fmt: skip
        self.mark = f"{given.cohort.path.name}-{known}"
        # each process keeps the little it comes back to
        self.cohort = lru_cache(4)(self._cohort)
        self.prepared = lru_cache(2)(self._prepared)
        self.candidates = lru_cache(None)(self._candidates)

    @cached_property
    def everyone(self) -> Cohort:
        """All volumes of the study, with their labels."""
        return draws.whole_cohort(self.given)

    def done(self, piece: Piece) -> bool:
        """Whether what a piece leaves in the folder is there."""
        return self._file(piece.kind, piece.labelled, piece.draw).exists()

    def __call__(self, piece: Piece) -> tuple[Piece, pd.DataFrame]:
        """Do a piece; the scores that it gives, none for a preparation."""
        torch.set_num_threads(1)
        self.folder.mkdir(parents=True, exist_ok=True)
        at = piece.labelled, piece.draw
        cohort, file = self.cohort(*at), self._file(piece.kind, *at)
        if piece.kind == "prepare":
            draws.prepare(cohort, self.given).save(file)
            return piece, pd.DataFrame()
        if piece.kind == "plain":
            rows, answers = draws.plain(cohort, self.given)
            partial = file.with_suffix(".partial.npz")
            np.savez_compressed(partial, torch.stack(answers).half().numpy())
            os.replace(partial, file)
            return piece, rows
        prepared = self.prepared(*at)
        if piece.kind == "tune":
            way = Candidate(piece.arm, piece.energy)
            fold = prepared.folds[piece.fold]
            return piece, draws.tuned(cohort, self.given, fold, piece.fold, way)
        named = piece.arm, piece.energy or 1.0, piece.seed
        return piece, draws.trained(cohort, self.given, prepared, *named, self._answers(*at))

    def _answers(self, labelled: int, draw: int) -> list[torch.Tensor]:
        """Those of the plain method; none in a study that stands beside another, which has them."""
        file = self._file("plain", labelled, draw)
        if not file.exists():
            return []
        with np.load(file) as kept:
            return list(torch.from_numpy(kept["arr_0"]))

    def _file(self, kind: str, labelled: int, draw: int) -> Path:
        ending = "npz" if kind == "plain" else "pt"
        return self.folder / f"{kind}_{labelled}_{draw}_{self.mark}.{ending}"

    def _cohort(self, labelled: int, draw: int) -> Cohort:
        if self.classes:
            return draws.cohort_of_classes(self.given, labelled, draw)
        table = self.everyone.table[["case", "subject", "split"]]
        unlabelled = 0 if self.alone else self.given.split.unlabelled_subjects or 0
        return draws.draw_of(self.everyone, draws.manifest(table, labelled, draw, unlabelled))

    def _prepared(self, labelled: int, draw: int) -> draws.Prepared:
        return draws.Prepared.load(self._file("prepare", labelled, draw))

    def _candidates(self, labelled: int, draw: int) -> tuple[Piece, ...]:
        folds = draws.arms_of_folds(self._file("prepare", labelled, draw))
        return tuple(
            Piece("tune", labelled, draw, way.arm, way.energy, number)
            for number, arms in enumerate(folds)
            for way in ways_of(self.given, self.classes)
            if way.arm in arms
        )


class Processes:
    """As many workshops as asked for, each in a process of its own."""

    def __init__(self, shop: Workshop, count: int) -> None:
        self.count = count
        given = shop.given, shop.folder, shop.classes, shop.alone
        self.pool = ProcessPoolExecutor(
            count, get_context("spawn"), initializer=_open, initargs=given
        )

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def each(self, ready: Callable[[], Iterable[Piece]]) -> Iterator[tuple[Piece, pd.DataFrame]]:
        """Pieces and their scores, in the order in which they are finished.

        `ready` names what can be done now and is not done yet, the most urgent first; it is asked
        again after every piece.
        """
        running: dict[Future[tuple[Piece, pd.DataFrame]], Piece] = {}
        while True:
            for piece in ready():
                if len(running) >= self.count:
                    break
                if piece not in running.values():
                    running[self.pool.submit(_work, piece)] = piece
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                del running[future]
                yield future.result()


_workshops: list[Workshop] = []


def _open(given: Parameters, folder: Path, classes: bool, alone: bool) -> None:
    _workshops.append(Workshop(given, folder, classes, alone))


def _work(piece: Piece) -> tuple[Piece, pd.DataFrame]:
    return _workshops[0](piece)
