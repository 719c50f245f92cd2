"""The register of checks, and the one way to run them: nothing crashes, nothing goes missing."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dreamorph.hallucination.config import EXPECTED, GATES, AuditConfig, Severity, Stage
from dreamorph.hallucination.result import (
    DOES_NOT_APPLY,
    CheckResult,
    Finding,
    Verdict,
    judge,
    not_assessable,
)

logger = logging.getLogger(__name__)

CheckFunction = Callable[[Any, AuditConfig], Finding]
F = TypeVar("F", bound=CheckFunction)

#: Why networks that learned classes were not asked what they draw.
NOT_ASKED = (
    "the cohort has no label maps, and no check asks yet whether a classifier answers from what is"
    " not there; the checks of the dreams are shown all the same"
)
#: Unit of a check that compares nets: whatever they are compared by.
THE_METRIC = "the metric"


@dataclass(frozen=True)
class CheckSpec:
    """A registered check and what its row says about it."""

    name: str
    stage: Stage
    severity: Severity
    quantity: str
    unit: str
    source: str
    needs_labels: bool
    function: CheckFunction


_REGISTRY: dict[str, CheckSpec] = {}


def check(
    name: str,
    *,
    stage: Stage,
    severity: Severity,
    quantity: str,
    unit: str,
    source: str = "-",
    needs_labels: bool = False,
) -> Callable[[F], F]:
    """Register `function(evidence, config) -> Finding` under a name of its own.

    A check with `needs_labels` gives no number on a cohort without labels. One of dreams then does
    not apply: its row says so, as a claim, so that it neither passes nor holds the run back. One of
    networks stays a gate that is not assessable: nothing asked them whether they invent.
    """

    def register(function: F) -> F:
        if name in _REGISTRY:
            raise ValueError(f"expected a new check name, got {name!r} a second time")
        spec = CheckSpec(name, stage, severity, quantity, unit, source, needs_labels, function)
        _REGISTRY[name] = spec
        return function

    return register


def registered(stage: Stage) -> dict[str, CheckSpec]:
    """The checks of a stage by name, in the order of the expected list, others after them."""
    found = {name: spec for name, spec in _REGISTRY.items() if spec.stage == stage}
    order = {name: place for place, name in enumerate(EXPECTED[stage])}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def run_checks(
    stage: Stage,
    evidence: Any,
    config: AuditConfig,
    checks: Mapping[str, CheckSpec] | None = None,
) -> list[CheckResult]:
    """Run every check of a stage on `DreamEvidence` or `NetEvidence`.

    A check that raises becomes a failed result that names the exception; an expected check that is
    not there becomes a failed result too. `checks` replaces the register (tests).
    """
    specs = registered(stage) if checks is None else dict(checks)
    results = [_run(spec, evidence, config) for spec in specs.values()]
    return results + missing(stage, results)


def missing(stage: Stage, results: list[CheckResult]) -> list[CheckResult]:
    """A failed result for every expected check of the stage that has none."""
    present = {result.name for result in results}
    return [
        _failed(name, stage, "the check is missing", "present")
        for name in EXPECTED[stage]
        if name not in present
    ]


def _run(spec: CheckSpec, evidence: Any, config: AuditConfig) -> CheckResult:
    unlabelled = False
    try:
        unlabelled = spec.needs_labels and evidence.n_labels == 0
        finding = _without_labels(spec) if unlabelled else spec.function(evidence, config)
        verdict, detail = judge(finding)
        value, n = float(finding.value), int(finding.n)
        threshold = None if finding.threshold is None else float(finding.threshold)
    except Exception as error:
        logger.exception("check %s raised", spec.name)
        first_line = (str(error).splitlines() or [""])[0][:200]
        finding = Finding(float("nan"), None, "runs without error", 0, False)
        value, threshold, n = finding.value, finding.threshold, finding.n
        verdict, detail = "fail", f"raised {type(error).__name__}: {first_line}"
    applies = not (unlabelled and spec.stage == "dreams")
    return CheckResult(
        name=spec.name,
        stage=spec.stage,
        severity=_severity(spec, config, verdict, (value, threshold)) if applies else "claim",
        quantity=spec.quantity,
        unit=_unit(spec, evidence),
        value=value,
        threshold=threshold,
        rule=finding.rule,
        n=n,
        verdict=verdict,
        detail=detail,
        source=spec.source,
    )


def _without_labels(spec: CheckSpec) -> Finding:
    """What is said of a check of labels where there are none."""
    why = f"{DOES_NOT_APPLY}: the cohort has no labels" if spec.stage == "dreams" else NOT_ASKED
    return not_assessable(float("nan"), "-", 0, why)


def _severity(
    spec: CheckSpec, config: AuditConfig, verdict: Verdict, numbers: tuple[float, float | None]
) -> Severity:
    """A check's own, or a stricter one.

    A claim that failed without numbers was not found wrong but could not be computed: it decides.
    """
    asked = config.severity.get(spec.name, spec.severity)
    broken = not all(math.isfinite(number) for number in numbers if number is not None)
    gate = "gate" in (asked, spec.severity) or spec.name in GATES
    return "gate" if gate or (verdict == "fail" and broken) else "claim"


def _unit(spec: CheckSpec, evidence: object) -> str:
    """The unit of a check; that of a comparison of nets is the metric they are compared by."""
    if spec.unit != THE_METRIC:
        return spec.unit
    metric = str(getattr(evidence, "metric", spec.unit))
    return {"dice": "Dice"}.get(metric, metric.replace("_", " "))


def _failed(name: str, stage: Stage, detail: str, rule: str) -> CheckResult:
    return CheckResult(
        name, stage, "gate", "-", "-", float("nan"), None, rule, 0, "fail", detail, "-"
    )
