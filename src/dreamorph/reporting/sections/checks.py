"""The hallucination checks, one by one."""

from dataclasses import dataclass
from typing import Any

from dreamorph.hallucination.result import decides, from_table
from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.parts import cell, number
from dreamorph.reporting.wording import CHECK_MEANINGS, NOTHING, VERDICT_SYMBOLS, VERDICT_WORDS
from dreamorph.volumes.records import rows as records

_STAGES = {"dreams": "The dreams", "nets": "The trained networks"}


@dataclass(frozen=True)
class CheckRow:
    """A check as it stands in the table; all cells are finished."""

    name: str
    meaning: str
    quantity: str
    value: str
    threshold: str
    rule: str
    n: str
    verdict: str
    word: str
    symbol: str
    severity: str
    detail: str
    source: str


def build(inputs: ReportInputs) -> dict[str, Any]:
    """Checks by stage."""
    stages = []
    if not inputs.checks.empty:
        for stage, own in inputs.checks.groupby("stage", sort=False):
            deciding = [decides(row) for row in from_table(own)]
            rows = [_row(row, d) for row, d in zip(records(own), deciding, strict=True)]
            stages.append({"title": _STAGES.get(str(stage), str(stage)), "rows": rows})
    counts = {
        word: int((inputs.checks["verdict"] == verdict).sum()) if len(inputs.checks) else 0
        for verdict, word in VERDICT_WORDS.items()
    }
    return {"stages": stages, "counts": counts}


def _row(row: dict[str, Any], deciding: bool) -> CheckRow:
    verdict = row["verdict"] if row["verdict"] in VERDICT_WORDS else "fail"
    unit = "" if row["unit"] in ("1", "-", "", None) else f" {row['unit']}"
    return CheckRow(
        name=str(row["name"]),
        meaning=CHECK_MEANINGS.get(str(row["name"]), ""),
        quantity=_text(row["quantity"]),
        value=_value(row["value"], unit),
        threshold="" if row["threshold"] is None else _value(row["threshold"], unit),
        rule=_text(row["rule"]),
        n=cell(row["n"]),
        verdict=verdict,
        word=VERDICT_WORDS[verdict],
        symbol=VERDICT_SYMBOLS[verdict],
        severity="decides" if deciding else "is stated",
        detail=_text(row["detail"]),
        source=_text(row["source"]),
    )


def _value(value: Any, unit: str) -> str:
    text = NOTHING if value is None else number(float(value))
    return text if text == NOTHING else text + unit


def _text(value: Any) -> str:
    return "" if value in (None, "-") else str(value)
