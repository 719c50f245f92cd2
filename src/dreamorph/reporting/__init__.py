"""The report of a run: one page of HTML, and its figures one by one."""

from dreamorph.reporting.figure_set import montages
from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.render import render_report

__all__ = ["ReportInputs", "montages", "render_report"]
