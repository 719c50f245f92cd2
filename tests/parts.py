"""A small pipeline with everything the shell offers: stores, tables, checks, arms, failures.

Copied into the small Kedro projects that tests make, so it imports nothing of the tests.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from kedro.pipeline import Pipeline, node, pipeline

from dreamorph.config import Config
from dreamorph.errors import CohortError


class Work(Config):
    """What the nodes are to do."""

    items: int = 4
    seconds: float = 0.0
    scale: float = 1.0
    fail: str = ""


def is_current(done: Any, key: str, work: Work) -> bool:
    """Whether the item is there and was made with this scale."""
    item = done.get(key)
    return item is not None and item["fingerprint"] == str(work.scale)


def make_items(work: Work, log: str, items_done: Any) -> Iterator[dict[str, Any]]:
    """Yield each item that is not there yet, and note that it was computed."""
    if work.fail == "items":
        raise CohortError("cohort.path: expected volumes, got none: give another folder")
    keys = [f"item_{i}" for i in range(work.items)]
    yield items_done.stale(keys)
    for i, key in enumerate(keys):
        if is_current(items_done, key, work):
            continue
        time.sleep(work.seconds)
        with Path(log).open("a") as stream:
            stream.write(f"{key}\n")
        yield {key: {"fingerprint": str(work.scale), "x": torch.full((100,), i * work.scale)}}


def make_arms(work: Work, arms_done: Any) -> Iterator[dict[str, Any]]:
    """Two arms with curves."""
    for i, name in enumerate(("elastic", "dream")):
        if is_current(arms_done, name, work):
            continue
        yield {
            name: {
                "fingerprint": str(work.scale),
                "params": {"lr": 0.1 * (i + 1), "warp": {"kind": name}},
                "history": {"step": [0, 1], "train/loss": [1.0, 0.5 * i]},
                "weight": torch.tensor(float(i)),
                "input_shape": [1, 4, 4, 4],
            }
        }


def add_up(work: Work, items: Any, arms: Any) -> tuple[Any, ...]:
    """Totals, checks and tables of all items and arms."""
    if work.fail == "interrupt":
        raise KeyboardInterrupt
    if work.fail == "total":
        raise ZeroDivisionError("a bug in /data/doe_jane/x")
    total = sum(float(item["x"].sum()) for item in items.values())
    checks = pd.DataFrame(
        {
            "name": ["folds", "two_sample"],
            "value": [total, float("nan")],
            "verdict": ["pass", "not_assessable"],
            "path": ["/data/doe_jane", None],
        }
    )
    metrics = {name: {"test": {"dice_mean": i / 2}} for i, name in enumerate(sorted(arms))}
    parent = {"test": {"dice_mean": total}}
    return {"total": total}, checks, metrics, {"verdict": "pass"}, parent, "<html></html>"


def build(item: dict[str, Any]) -> torch.nn.Module:
    """The net of an arm."""
    net = torch.nn.Conv3d(1, 2, 3, padding=1)
    torch.nn.init.constant_(net.weight, float(item["weight"]))
    return net


def create_pipeline(**_: Any) -> Pipeline:
    """Items, arms, then sums."""
    return pipeline(
        [
            node(
                make_items, ["params:work", "params:log", "items_done"], "items", name="make_items"
            ),
            node(make_arms, ["params:work", "arms_done"], "arms", name="make_arms"),
            node(
                add_up,
                ["params:work", "items", "arms"],
                ["total", "checks", "arm_metrics", "tags", "metrics", "report"],
                name="add_up",
            ),
        ]
    )


CATALOG = """
items: &items
  type: dreamorph.datasets.AtomicStore
  path: data/02_intermediate/${study:}/items
items_done: *items
arms:
  type: dreamorph.datasets.AtomicStore
  path: data/06_models/${study:}/arms
  metadata: {mlflow: {kind: arms, net: PACKAGE.parts.build}}
arms_done:
  type: dreamorph.datasets.AtomicStore
  path: data/06_models/${study:}/arms
total:
  type: dreamorph.datasets.AtomicFile
  filepath: data/08_reporting/${study:}/total.json
  dataset: json.JSONDataset
  metadata: {mlflow: {kind: artifact, folder: sums}}
checks:
  type: dreamorph.datasets.AtomicFile
  filepath: data/08_reporting/${study:}/checks.csv
  dataset: {type: pandas.CSVDataset, save_args: {index: false}}
  metadata: {mlflow: {kind: checks, file: checks.json, drop: [path]}}
arm_metrics:
  type: dreamorph.datasets.AtomicFile
  filepath: data/08_reporting/${study:}/arm_metrics.json
  dataset: json.JSONDataset
  metadata: {mlflow: {kind: arm_metrics}}
tags:
  type: dreamorph.datasets.AtomicFile
  filepath: data/08_reporting/${study:}/tags.json
  dataset: json.JSONDataset
  metadata: {mlflow: {kind: tags}}
metrics:
  type: dreamorph.datasets.AtomicFile
  filepath: data/08_reporting/${study:}/metrics.json
  dataset: json.JSONDataset
  metadata: {mlflow: {kind: metrics}}
report:
  type: dreamorph.datasets.AtomicFile
  filepath: data/08_reporting/${study:}/report.html
  dataset: text.TextDataset
  metadata: {mlflow: {kind: artifact, announce: report}}
"""

PARAMETERS = """
work: {items: 4}
log: computed.txt
cohort: {path: null}
"""

MODEL = """
from dreamorph.config import Config
from PACKAGE.parts import Work

class Cohort(Config):
    path: str | None = None

class Parameters(Config):
    work: Work
    log: str
    cohort: Cohort
"""
