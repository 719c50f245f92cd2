"""Results per subject and paired differences, for the checks of trained nets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dreamorph.evaluation.statistics import (
    CONFIDENCE,
    bootstrap_interval,
    paired,
    wilcoxon_exact,
)
from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import NetEvidence

_KEYS = ["case", "label"]
#: Largest p-value of a claim, before any correction.
LEVEL = round(1 - CONFIDENCE, 6)


@dataclass(frozen=True)
class Difference:
    """Paired difference of two sets of results, one value per subject.

    Attributes:
        mean: over subjects.
        low, high: subject bootstrap interval of the mean; NaN where they are too few for one.
        p: exact two-sided Wilcoxon signed-rank test.
        n: subjects.
        problem: why the two cannot be compared; '' if they can.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    problem: str = ""

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:+.4f} (too few for an interval)"
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def arm_results(evidence: NetEvidence, arm: str) -> pd.DataFrame:
    """Rows of one arm."""
    return evidence.cases[evidence.cases["arm"] == arm]


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, metric: str, config: AuditConfig
) -> Difference:
    """Mean over subjects of `first - second`, where both hold the very same cases and labels.

    Seeds are averaged per case and label, then labels and cases per subject. NaN anywhere, or a
    case that only one of them or not every seed holds, is a problem: dropping it could flatter
    either side. The interval is at the level of every claim, not at that of the audit's bounds,
    where less confidence asks more.
    """
    n = int(first["subject"].nunique())
    problem = _problem(first, second, metric)
    if problem:
        nan = float("nan")
        return Difference(nan, nan, nan, nan, n, problem)
    a, b = _per_subject(first, metric), _per_subject(second, metric)
    values = paired(a.to_numpy(float), b.reindex(a.index).to_numpy(float))
    low, high = bootstrap_interval(values, np.random.default_rng(config.seed), CONFIDENCE)
    return Difference(float(values.mean()), low, high, wilcoxon_exact(values), len(values))


def _per_subject(table: pd.DataFrame, metric: str) -> pd.Series:
    cells = table.groupby(["subject", *_KEYS], dropna=False)[metric].mean()
    return cells.groupby(level=["subject", "case"]).mean().groupby(level="subject").mean()


def _problem(first: pd.DataFrame, second: pd.DataFrame, metric: str) -> str:
    for table in (first, second):
        if not len(table):
            return "no results"
        if metric not in table or not np.isfinite(table[metric].to_numpy(float)).all():
            return f"{metric} is missing or not finite somewhere"
        if table[["subject", "case"]].isna().any(axis=None):
            return "results without a subject or a case"
        seeds = [_cells(part) for _, part in table.groupby("seed")] if "seed" in table else []
        if any(cells != _cells(table) for cells in seeds):
            return "some case results are not of every training"
    keys = [_cells(table) for table in (first, second)]
    if keys[0] != keys[1]:
        return f"{len(keys[0] ^ keys[1])} case results are in one table only"
    return ""


def _cells(table: pd.DataFrame) -> set[tuple[object, ...]]:
    columns: Sequence[str] = ["subject", *_KEYS]
    return set(table[list(columns)].astype(str).itertuples(index=False, name=None))
