"""The register of checks, and the one way to run them: nothing crashes, nothing goes missing."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dreamorph.hallucination.config import EXPECTED, AuditConfig, Severity, Stage
from dreamorph.hallucination.result import DOES_NOT_APPLY, CheckResult, Finding, judge

logger = logging.getLogger(__name__)

CheckFunction = Callable[[Any, AuditConfig], Finding]
F = TypeVar("F", bound=CheckFunction)

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

    A check with `needs_labels` does not apply to a cohort without labels: its row then says so, as
    a claim, so that it neither passes nor holds the run back.
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
    severity = config.severity.get(spec.name, spec.severity)
    try:
        if spec.needs_labels and evidence.n_labels == 0:
            severity = "claim"
            finding = Finding(
                float("nan"), None, "-", 0, None, f"{DOES_NOT_APPLY}: the cohort has no labels"
            )
        else:
            finding = spec.function(evidence, config)
        verdict, detail = judge(finding)
        value, n = float(finding.value), int(finding.n)
        threshold = None if finding.threshold is None else float(finding.threshold)
    except Exception as error:
        logger.exception("check %s raised", spec.name)
        first_line = (str(error).splitlines() or [""])[0][:200]
        finding = Finding(float("nan"), None, "runs without error", 0, False)
        value, threshold, n = finding.value, finding.threshold, finding.n
        verdict, detail = "fail", f"raised {type(error).__name__}: {first_line}"
    return CheckResult(
        name=spec.name,
        stage=spec.stage,
        severity=severity,
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
