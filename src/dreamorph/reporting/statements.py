"""The verdict in words: never more than the numbers carry."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dreamorph.evaluation import CONFIDENCE, subject_means, with_absent_labels
from dreamorph.hallucination.config import EXPECTED
from dreamorph.hallucination.result import CheckResult, decides, does_not_apply, from_table
from dreamorph.hallucination.statistics import fewest_subjects
from dreamorph.hallucination.verdict import overall_verdict
from dreamorph.reporting.inputs import DREAM, NETWORK_ARMS, RANDOM, ReportInputs
from dreamorph.reporting.parts import signed, span
from dreamorph.reporting.style import arm_name
from dreamorph.reporting.wording import (
    CLAIMS,
    HIGHER_IS_BETTER,
    INTERVAL,
    METRIC_NAMES,
    NOTHING,
    UNITS,
    UNJUDGED,
    UNJUDGED_ALL,
    VERDICT_WORDS,
)
from dreamorph.volumes.records import rows as records

#: Largest p-value that counts.
LEVEL = round(1 - CONFIDENCE, 6)
_NUMBERS = ("mean_first", "mean_second", "difference", "lower", "upper")
_ANSWERS = {
    "pass": "No sign of it was found",
    "fail": "At least one check says so",
    "not_assessable": "Not assessable",
}
_PRIMARY = ("dice", "balanced_accuracy")


@dataclass(frozen=True)
class Statement:
    """One finding: a few words, a sentence, and how it is marked (good, bad, open)."""

    question: str
    answer: str
    sentence: str
    tone: str


def against(inputs: ReportInputs, rival: str | None, what: str) -> Statement:
    """How the dream arm compares with a rival arm, in the primary metric."""
    question = (
        "Did dreaming help, compared with random warps?"
        if rival == RANDOM
        else f"Is the network trained on dreams better than {what}?"
    )
    if DREAM not in inputs.arms:
        return Statement(question, "Not measured", "No dream arm was evaluated.", "open")
    if rival is None or rival not in inputs.arms:
        return Statement(question, "Not measured", f"There is no result of {what}.", "open")
    row = _comparison(inputs.comparisons, rival)
    if row is None:
        text = f"The dream arm and {arm_name(rival)} were not compared."
        return Statement(question, "Not measured", text, "open")
    return _judged(question, row, rival, _needed(inputs.comparisons, row))


def best_baseline(inputs: ReportInputs) -> str | None:
    """The plain baseline with the best primary metric, None where there is none."""
    baselines = inputs.baselines
    metric = next((m for m in _PRIMARY if m in inputs.cases), None)
    if len(baselines) < 2 or metric is None:
        return baselines[0] if baselines else None
    means = _means(inputs, metric)[baselines].mean()
    return str(means.idxmax()) if means.notna().any() else baselines[0]


def overall(inputs: ReportInputs) -> str:
    """The run's verdict or, where it is worse, what the table of checks comes to.

    The table is judged as the run judged it: a check that is missing from it fails.
    """
    if inputs.checks.empty:
        return "fail" if inputs.verdict == "fail" else "not_assessable"
    both = {inputs.verdict, overall_verdict(from_table(inputs.checks))}
    if "fail" in both or not both <= set(VERDICT_WORDS):
        return "fail"
    return "not_assessable" if "not_assessable" in both else "pass"


def recommendation(inputs: ReportInputs) -> Statement | None:
    """Which network to use, as cross-validation chose; None where nothing was chosen."""
    arm = str(inputs.choice.get("recommended_arm", ""))
    if arm not in NETWORK_ARMS:
        return None
    text = (
        "Chosen by cross-validation within the training subjects, before any test subject was"
        f" seen: {inputs.choice['choice_reason']}."
    )
    tone = "good"
    row = None if arm in (DREAM, RANDOM) else _comparison(inputs.comparisons, RANDOM, arm)
    if row is not None and math.isfinite(row["difference"]):
        text += f" On the test subjects, which had no say in it: {_numbers(row, RANDOM)}"
        if max(row["lower"] * _sign(row), row["upper"] * _sign(row)) < 0:
            text += " On these random warps did better."
            tone = "open"
    plain = best_baseline(inputs)
    metric = next((m for m in _PRIMARY if m in inputs.cases), None)
    if plain is not None and metric is not None:
        means = _means(inputs, metric).reindex(columns=[plain, arm]).dropna().mean()
        if means[plain] > means[arm]:
            text += (
                f" But {arm_name(plain)}, which needs no network, is ahead of it on the test"
                f" subjects ({means[plain]:.3f} against {means[arm]:.3f})."
            )
            tone = "open"
    if overall(inputs) != "pass":
        text += (
            " The checks do not promote it: it is the one to take of those trained here, if any."
        )
        tone = "open"
    return Statement("Which network should be used?", f"That of {arm_name(arm)}", text, tone)


def hallucination(inputs: ReportInputs) -> Statement:
    """What the checks say as a whole, and which of them decides."""
    question = "Was anything hallucinated?"
    verdict = overall(inputs)
    tone = {"pass": "good", "fail": "bad", "not_assessable": "open"}[verdict]
    if inputs.checks.empty:
        text = "No check was run, so nothing is known."
        return Statement(question, _ANSWERS[verdict], text, tone)
    rows = from_table(inputs.checks)
    gates = [row for row in rows if decides(row)]
    names = {v: [row.name for row in gates if row.verdict == v] for v in VERDICT_WORDS}
    present = {row.name for row in rows}
    absent = [name for stage in EXPECTED.values() for name in stage if name not in present]
    parts = []
    if names["fail"]:
        parts.append(f"{_checks(names['fail'])} failed, so dreams and networks are not promoted")
    if absent:
        parts.append(f"{_checks(absent)} cannot be found among those made, which fails the run")
    if names["not_assessable"]:
        parts.append(f"{_checks(names['not_assessable'])} could not be assessed")
    if verdict == "pass":
        parts.append(
            f"all {len(gates)} deciding checks passed, which does not prove the absence of"
            " hallucinations"
        )
    elif verdict == "fail" and not names["fail"] and not absent:
        parts.append(f"the run's verdict is {inputs.verdict!r}, although no check here failed")
    elif verdict == "not_assessable" and not names["not_assessable"]:
        parts.append("the run is not assessable, although no deciding check here says so")
    text = "; ".join(parts)
    text = f"{text[:1].upper()}{text[1:]}.{_of_classes(inputs, gates)}"
    return Statement(question, _ANSWERS[verdict], text, tone)


def _of_classes(inputs: ReportInputs, gates: list[CheckResult]) -> str:
    """Why no run that learned classes can pass, and what was found all the same."""
    if inputs.task != "classification":
        return ""
    passed = sum(row.verdict == "pass" for row in gates)
    return (
        " Whether a classifier answers from what is not there, no check asks yet: without label"
        " maps there is nothing to paint out, so a run that learns classes does not pass, however"
        f" good it is. Of the {len(gates)} deciding checks {passed} passed."
    )


def not_of_dreams(inputs: ReportInputs) -> str:
    """That the recommended network has seen samples which no check judged; '' if dreams only."""
    arm = str(inputs.choice.get("recommended_arm", ""))
    if arm not in NETWORK_ARMS or arm == DREAM:
        return ""
    return f"{UNJUDGED.get(arm, UNJUDGED[''])} {UNJUDGED_ALL}"


def claims(inputs: ReportInputs) -> str:
    """Claims that did not hold, as one sentence; empty where all did."""
    if inputs.checks.empty:
        return ""
    rows = [row for row in from_table(inputs.checks) if not decides(row)]
    names = [row.name for row in rows if row.verdict != "pass" and not does_not_apply(row)]
    if not names:
        return ""
    open_claims = "; ".join(f"{CLAIMS.get(name, name)} ({name})" for name in names)
    return f"This run does not show {open_claims}."


def _means(inputs: ReportInputs, metric: str) -> pd.DataFrame:
    """Means per subject and arm as the comparisons take them: a label rightly absent counts."""
    known = {"dice", "reference_ml", "volume_ml"} <= set(inputs.cases)
    return subject_means(with_absent_labels(inputs.cases) if known else inputs.cases, metric)


def _comparison(table: pd.DataFrame, rival: str, arm: str = DREAM) -> dict[str, Any] | None:
    """An arm's row against a rival, turned so that the arm comes first."""
    if table.empty:
        return None
    for metric in [*_PRIMARY, *dict.fromkeys(table["metric"])]:
        own = table[table["metric"] == metric]
        for row in records(own):
            row |= {k: math.nan if row[k] is None else float(row[k]) for k in _NUMBERS}
            if (row["first"], row["second"]) == (arm, rival):
                return row
            if (row["first"], row["second"]) == (rival, arm):
                return row | {
                    "first": arm,
                    "second": rival,
                    "mean_first": row["mean_second"],
                    "mean_second": row["mean_first"],
                    "difference": -row["difference"],
                    "lower": -row["upper"],
                    "upper": -row["lower"],
                }
    return None


def _needed(table: pd.DataFrame, row: dict[str, Any]) -> int:
    """Fewest test subjects by which the corrected test of a comparison could confirm anything.

    Against other networks dreams are one family, each against the plain method is one by itself.
    """
    pair = {row["first"], row["second"]}
    family = 1
    if pair <= set(NETWORK_ARMS):
        own = table[table["metric"] == row["metric"]]
        others = zip(own["first"], own["second"], strict=True)
        family = sum(DREAM in both and set(both) <= set(NETWORK_ARMS) for both in others)
    return fewest_subjects(family, LEVEL)


def _judged(question: str, row: dict[str, Any], rival: str, needed: int) -> Statement:
    sign = _sign(row)
    if not math.isfinite(row["difference"]):
        text = f"The difference could not be measured ({row['n_subjects']} common test subjects)."
        return Statement(question, "Not measured", text, "open")
    numbers = _numbers(row, rival)
    if row["p"] is None or not math.isfinite(row["upper"] - row["lower"]):
        text = "Too few test subjects to tell a difference from luck."
        return Statement(question, "Underpowered", f"{text} {numbers}", "open")
    if row["n_subjects"] < needed:
        text = (
            "Too few test subjects to tell a difference from luck, whatever it is:"
            f" {needed} are needed for as many comparisons."
        )
        return Statement(question, "Underpowered", f"{text} {numbers}", "open")
    lower, upper = sorted((sign * row["lower"], sign * row["upper"]))
    if lower <= 0 <= upper:
        text = "The interval of the difference holds zero, so none is shown."
        return Statement(question, "Not shown", f"{text} {numbers}", "open")
    if _shown_p(row) < LEVEL:
        answer, tone = ("Yes", "good") if lower > 0 else ("No, it was worse", "bad")
        return Statement(question, answer, numbers, tone)
    text = (
        f"A hint {'in favour of' if lower > 0 else 'against'} dreams and no more: the interval of"
        " the difference leaves out zero, but the corrected test does not confirm it."
    )
    return Statement(question, "Not shown", f"{text} {numbers}", "open")


def _sign(row: dict[str, Any]) -> int:
    """One where more of the metric is better, else minus one."""
    return 1 if HIGHER_IS_BETTER.get(str(row["metric"]), True) else -1


def _numbers(row: dict[str, Any], rival: str) -> str:
    metric = str(row["metric"])
    name = METRIC_NAMES.get(metric, metric)
    shown = "dreams" if row["first"] == DREAM else arm_name(str(row["first"]))
    p = ""
    if row["p"] is not None:
        value = _shown_p(row)
        p = f", p {'< 0.001' if value < 0.001 else f'= {value:.3f}'} (exact Wilcoxon, Holm)"
    ends = span(row["lower"], row["upper"])
    interval = "too few for an interval" if ends == NOTHING else f"{INTERVAL} {ends}"
    return (
        f"{name[:1].upper()}{name[1:]}{UNITS.get(metric, '')} {row['mean_first']:.3f} with"
        f" {shown}, {row['mean_second']:.3f} with {arm_name(rival)}: difference"
        f" {signed(row['difference'])}, {interval}{p}, {row['n_subjects']} test subjects."
    )


def _shown_p(row: dict[str, Any]) -> float:
    """The corrected p-value where there is one."""
    return float(row["p"] if row["p_holm"] is None else row["p_holm"])


def _checks(names: list[str]) -> str:
    return ("check " if len(names) == 1 else "checks ") + ", ".join(names)
