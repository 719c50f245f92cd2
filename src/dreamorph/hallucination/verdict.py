"""One verdict for the run."""

from collections.abc import Iterable, Sequence

from dreamorph.hallucination.config import Stage
from dreamorph.hallucination.registry import missing
from dreamorph.hallucination.result import DOES_NOT_APPLY, CheckResult, Verdict

#: Tag of a claim that is not assessable.
OPEN = "could not be judged"


def overall_verdict(
    results: Iterable[CheckResult], stages: Sequence[Stage] = ("dreams", "nets")
) -> Verdict:
    """`fail` if any gate failed or an expected check is missing, else `not_assessable` if any gate
    could not be assessed, else `pass`.

    Claims do not count here: they are tagged. Gates are not corrected for their number, since a
    correction would only make each of them easier to pass.
    """
    results = list(results)
    absent = [row for stage in stages for row in missing(stage, results)]
    verdicts = {row.verdict for row in [*results, *absent] if row.severity == "gate"}
    if "fail" in verdicts or not verdicts <= {"pass", "fail", "not_assessable"}:
        return "fail"
    return "not_assessable" if "not_assessable" in verdicts or not verdicts else "pass"


def tags(results: Iterable[CheckResult]) -> dict[str, str]:
    """What the run must say about its claims: check name -> tag, for claims that did not hold.

    A claim that too little is known about is not called wrong.
    """
    wording = {
        "baseline_first": "not better than plain",
        "dream_ablation": "not better than random warps",
    }
    return {
        row.name: OPEN if row.verdict == "not_assessable" else wording.get(row.name, "not shown")
        for row in results
        if row.severity == "claim"
        and row.verdict != "pass"
        and not row.detail.startswith(DOES_NOT_APPLY)
    }
