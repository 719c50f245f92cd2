"""What a check says: a number, the rule it was held against, and one of three verdicts."""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

import pandas as pd

from dreamorph.hallucination.config import GATES, OF_LABELS, Severity, Stage

Verdict = Literal["pass", "fail", "not_assessable"]

#: How the detail of a check begins that the cohort gives no occasion for.
DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Finding:
    """What a check function returns.

    Attributes:
        value: the quantity, in the check's unit.
        threshold: what it was held against, in the same unit; None where there is no number.
        rule: the condition in words.
        n: how many cases, dreams or subjects the value rests on.
        passed: True, False, or None where too little is known to tell.
        detail: one line for a reader who asks why.
    """

    value: float
    threshold: float | None
    rule: str
    n: int
    passed: bool | None
    detail: str = ""


@dataclass(frozen=True)
class CheckResult:
    """One row of the check table."""

    name: str
    stage: Stage
    severity: Severity
    quantity: str
    unit: str
    value: float
    threshold: float | None
    rule: str
    n: int
    verdict: Verdict
    detail: str
    source: str


COLUMNS = tuple(field.name for field in fields(CheckResult))


def decides(row: CheckResult) -> bool:
    """Whether a row counts for the run's verdict, whatever severity it bears.

    A gate does, and so does a claim that could not be computed: nothing is known of it, so it is
    neither true nor false. What a cohort without labels gives no occasion for does not.
    """
    if does_not_apply(row):
        return False
    broken = row.verdict != "not_assessable" and not math.isfinite(row.value)
    return row.name in GATES or row.severity != "claim" or broken


def does_not_apply(row: CheckResult) -> bool:
    """Whether a row says that the cohort has no labels; only checks of dreams may."""
    return (
        row.name in OF_LABELS
        and row.stage == "dreams"
        and row.verdict == "not_assessable"
        and row.detail.startswith(DOES_NOT_APPLY)
    )


def judge(finding: Finding) -> tuple[Verdict, str]:
    """Verdict and detail of a finding, failing closed.

    A finding that passed must rest on at least one case and on finite numbers; otherwise the
    verdict is `fail` (numbers) or `not_assessable` (no case).
    """
    detail = finding.detail
    if finding.passed is None:
        return "not_assessable", detail
    if not finding.passed:
        return "fail", detail
    numbers = [finding.value] + ([] if finding.threshold is None else [finding.threshold])
    if not all(math.isfinite(number) for number in numbers):
        return "fail", _join(detail, "not a finite number: failed closed")
    if finding.n < 1:
        return "not_assessable", _join(detail, "no case")
    return "pass", detail


def not_assessable(value: float, rule: str, n: int, why: str) -> Finding:
    """A finding that says honestly that too little is known."""
    return Finding(value, None, rule, n, None, why)


def to_table(results: Iterable[CheckResult]) -> pd.DataFrame:
    """One row per result with the columns of `CheckResult`, in the order given."""
    table = pd.DataFrame([astuple(result) for result in results], columns=list(COLUMNS))
    table[["value", "threshold"]] = table[["value", "threshold"]].astype(float)
    table["n"] = table["n"].astype(int)
    return table


def from_table(table: pd.DataFrame) -> list[CheckResult]:
    """The rows of `to_table`, also after a way through a file.

    What is missing in it is NaN or ''; neither lets a check pass.
    """
    return [_from_row(row) for row in table.to_dict("records")]


def _from_row(row: dict[Any, Any]) -> CheckResult:
    known = {name: None if pd.isna(row.get(name)) else row[name] for name in COLUMNS}
    numbers = {name: known.pop(name) for name in ("value", "threshold", "n")}
    value = float("nan") if numbers["value"] is None else float(numbers["value"])
    threshold = None if numbers["threshold"] is None else float(numbers["threshold"])
    words: dict[str, Any] = {k: "" if word is None else str(word) for k, word in known.items()}
    return CheckResult(**words, value=value, threshold=threshold, n=int(numbers["n"] or 0))


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
