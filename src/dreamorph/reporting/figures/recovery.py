"""What was recovered of a truth that is known because it was simulated."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dreamorph.reporting.inputs import ReportInputs
from dreamorph.reporting.style import INK, horizontal_grid, new_figure, styled


def part(inputs: ReportInputs, name: str) -> dict[str, Any]:
    """Part of the recovery as a plain dict; empty where it is missing."""
    value = (inputs.recovery or {}).get(name)
    if value is None:
        return {}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else {}


@styled
def registration_error(inputs: ReportInputs) -> Figure | str:
    """Distance between estimated and true points, before and after, pair by pair."""
    values = part(inputs, "registration")
    if "before_mean_mm" not in values or "after_mean_mm" not in values:
        return "The registration error against the known truth was not measured."
    figure = new_figure(6.4, 3.0)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (statistic, title) in zip(
        axes, (("mean", "mean over the volume"), ("p95", "95th percentile")), strict=True
    ):
        stages = [f"{stage}_{statistic}_mm" for stage in ("before", "after")]
        if not all(stage in values for stage in stages):
            ax.set_title(f"{title}: not measured")
            continue
        both = np.stack([np.asarray(values[stage], dtype=float).ravel() for stage in stages])
        ax.plot([0, 1], both, color="#b8c0c8", linewidth=0.6)
        for place, (own, symbol) in enumerate(zip(both, ("o", "s"), strict=True)):
            ax.scatter(np.full(len(own), place), own, s=12, c="#0072b2", marker=symbol, zorder=2)
            ax.hlines(np.median(own), place - 0.2, place + 0.2, color=INK, linewidth=2, zorder=3)
        ax.set_xticks([0, 1], ["before", "after"])
        ax.set_xlim(-0.5, 1.5)
        ax.set_title(title)
        horizontal_grid(ax)
    axes[0].set_ylabel("distance from the truth (mm)")
    axes[0].set_ylim(bottom=0)
    return figure
