"""One verdict for the run."""

import math
from collections.abc import Iterable, Sequence

from dreamorph.hallucination.config import Stage
from dreamorph.hallucination.registry import missing
from dreamorph.hallucination.result import CheckResult, Verdict, decides, does_not_apply

#: Tag of a claim that is not assessable.
OPEN = "could not be judged"


def overall_verdict(
    results: Iterable[CheckResult], stages: Sequence[Stage] = ("dreams", "nets")
) -> Verdict:
    """`fail` if any gate failed or an expected check is missing, else `not_assessable` if any gate
    could not be assessed, else `pass`.

    Which checks are gates is known beforehand; a row cannot call itself a claim (`decides`). Claims
    do not count here: they are tagged. Gates are not corrected for their number, since a correction
    would only make each of them easier to pass.
    """
    results = list(results)
    absent = [row for stage in stages for row in missing(stage, results)]
    verdicts = {_closed(row) for row in [*results, *absent] if decides(row)}
    if "fail" in verdicts or not verdicts <= {"pass", "fail", "not_assessable"}:
        return "fail"
    return "not_assessable" if "not_assessable" in verdicts or not verdicts else "pass"


def _closed(row: CheckResult) -> str:
    """The row's verdict; no number passes nothing."""
    return row.verdict if row.verdict != "pass" or math.isfinite(row.value) else "fail"


def tags(results: Iterable[CheckResult]) -> dict[str, str]:
    """What the run must say about its claims: check name -> tag, for claims that did not hold.

    A claim that too little is known about is not called wrong, and one that could not be computed
    is a gate that failed.
    """
    wording = {
        "baseline_first": "not better than plain",
        "dream_ablation": "not better than random warps",
    }
    return {
        row.name: OPEN if row.verdict == "not_assessable" else wording.get(row.name, "not shown")
        for row in results
        if row.verdict != "pass" and not decides(row) and not does_not_apply(row)
    }
