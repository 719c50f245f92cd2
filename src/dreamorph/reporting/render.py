"""The report as one page of HTML that needs nothing else."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.parts import Picture, Table
from dreamorph.reporting.sections import (
    arms,
    checks,
    cohort,
    dreams,
    making,
    prior,
    recovery,
    registration,
    verdict,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """A section: its anchor (also its template), its title, and what fills it."""

    key: str
    title: str
    build: Callable[[ReportInputs], dict[str, Any]]


SECTIONS = (
    Section("verdict", "Verdict", verdict.build),
    Section("cohort", "What went in", cohort.build),
    Section("registration", "Registration, before and after", registration.build),
    Section("prior", "What the prior learned", prior.build),
    Section("dreams", "Patients beside dreams", dreams.build),
    Section("arms", "Arms compared", arms.build),
    Section("checks", "The checks", checks.build),
    Section("recovery", "How well the truth was recovered", recovery.build),
    Section("limits", "What this report cannot say", making.build_limits),
    Section("making", "How it was made", making.build),
)


def render_report(inputs: ReportInputs) -> str:
    """The whole report as HTML; see `draw_report`."""
    return draw_report(inputs)[0]


def draw_report(inputs: ReportInputs) -> tuple[str, list[Picture]]:
    """The whole report as HTML, which loads nothing from anywhere, and the pictures in it.

    A section whose inputs are missing says so; one that cannot be drawn names the error, since a
    fault in a figure must not cost a run its report.
    """
    environment = _environment()
    sections = [s for s in SECTIONS if s.key != "recovery" or inputs.simulated or inputs.recovery]
    pictures: list[Picture] = []
    bodies = [
        {"key": s.key, "title": s.title, "body": Markup(_body(environment, s, inputs, pictures))}
        for s in sections
    ]
    page = environment.get_template("report.html.j2").render(
        inputs=inputs,
        sections=bodies,
        style=Markup(_text(environment, "report.css")),
        script=Markup(_text(environment, "report.js")),
    )
    return page, pictures


def summarise(inputs: ReportInputs) -> str:
    """What the report says first, as Markdown for the dashboard."""
    environment = _environment()
    environment.autoescape = False
    template = environment.get_template("summary.md.j2")
    try:
        return template.render(inputs=inputs, **verdict.build(inputs))
    except Exception:
        logger.exception("the summary cannot be written")
        return "The summary could not be written: see report.html."


def _body(
    environment: Environment, section: Section, inputs: ReportInputs, pictures: list[Picture]
) -> str:
    try:
        values = section.build(inputs)
        body = environment.get_template(f"{section.key}.html.j2").render(inputs=inputs, **values)
        for value in values.values():
            own = value if isinstance(value, list) else [value]
            pictures += [piece for piece in own if isinstance(piece, Picture)]
        return body
    except Exception as error:
        logger.exception("section %s of the report cannot be drawn", section.key)
        what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        return environment.get_template("broken.html.j2").render(what=what)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dreamorph.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["picture"] = lambda value: isinstance(value, Picture)
    environment.tests["table"] = lambda value: isinstance(value, Table)
    return environment


def _text(environment: Environment, name: str) -> str:
    """A file of ours as it is; it holds no values."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
