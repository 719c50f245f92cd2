"""One way of judging every tool."""

from dataclasses import dataclass

import torch

from benchmarks.cohorts import Pairing
from benchmarks.tools import Outcome, grid_of
from dreamorph.spatial import extent, folded_voxels, points_like, sample
from dreamorph.spatial.transform import argmax_labels, one_hot


@dataclass(frozen=True)
class Score:
    """One pair under one tool.

    Attributes:
        fixed, moving: the cases.
        dice: mean over the labels that count, one-hot linear warp, most probable label.
        folded_percent: voxels of the fixed box with a one-sided determinant that is not positive.
        inverse_mm: mean distance of a point from itself, there and back.
        error_mm: mean distance from the truth within the fixed labels; NaN where none is known.
        seconds: CPU time.
        failure: what the tool itself says is wrong; empty for nothing.
    """

    fixed: str
    moving: str
    dice: float
    folded_percent: float
    inverse_mm: float
    error_mm: float
    seconds: float
    failure: str = ""


def judge(pairs: Pairing, row: int, outcome: Outcome) -> Score:
    """Measure what a tool made of one pair."""
    box = (slice(None), slice(None), *pairs.fixed.box(row))
    shape, spacing = tuple(pairs.fixed.images.shape[2:]), pairs.spacing_mm
    hot = one_hot(pairs.moving.labels[[row]], max(pairs.labels))
    moved = argmax_labels(sample(hot, outcome.forward, extent(shape, spacing)))
    fixed = pairs.fixed.labels[[row]][box]
    return Score(
        pairs.fixed.cases[row],
        pairs.moving.cases[row],
        dice(fixed, moved, pairs.labels),
        100 * folded_share(outcome.forward, spacing),
        inverse_error_mm(pairs, row, outcome),
        _true_error(pairs, row, outcome.forward, fixed),
        outcome.seconds,
        outcome.failure,
    )


def dice(fixed: torch.Tensor, moved: torch.Tensor, labels: tuple[int, ...]) -> float:
    """Mean Dice over labels."""
    scores = [
        2 * float(((fixed == v) & (moved == v)).sum())
        / max(1.0, float((fixed == v).sum() + (moved == v).sum()))
        for v in labels
    ]  # fmt: skip
    return sum(scores) / len(scores)


def folded_share(points: torch.Tensor, spacing_mm: tuple[float, ...]) -> float:
    """Share of voxels with any one-sided determinant that is not positive."""
    return float(folded_voxels(points, spacing_mm).float().mean())


def inverse_error_mm(pairs: Pairing, row: int, outcome: Outcome) -> float:
    """There by the map, back by the tool's inverse, over points that stay within the volumes."""
    here, there = grid_of(pairs, pairs.fixed, row), grid_of(pairs, pairs.moving, row)
    low, high = there.flatten(2).amin(-1), there.flatten(2).amax(-1)
    flat = outcome.forward.flatten(2)
    inside = ((flat >= low[..., None]) & (flat <= high[..., None])).all(dim=1)
    return float((outcome.home - here).norm(dim=1).flatten(1)[inside].mean())


def _true_error(
    pairs: Pairing, row: int, forward: torch.Tensor, fixed_labels: torch.Tensor
) -> float:
    if pairs.truth is None:
        return float("nan")
    shape = tuple(pairs.fixed.images.shape[2:])
    grid = points_like(shape, pairs.spacing_mm)
    truth = pairs.truth.pair_points([pairs.fixed.cases[row]], [pairs.moving.cases[row]], grid)
    truth = truth[(slice(None), slice(None), *pairs.fixed.box(row))]
    distance = (forward - truth).norm(dim=1, keepdim=True)
    return float(distance[fixed_labels > 0].mean())
