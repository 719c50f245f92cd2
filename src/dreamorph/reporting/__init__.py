"""The report of a run: one page of HTML, and its figures one by one."""

from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.render import draw_report, render_report, summarise

__all__ = ["ReportInputs", "draw_report", "render_report", "summarise"]
