"""Nodes of the dreaming step."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from dreamorph.datasets import StoredItems
from dreamorph.dreaming import DreamConfig, Dreamer
from dreamorph.dreaming.dreamer import VERSION
from dreamorph.dreaming.dreams import recipes_from_table, recipes_to_table
from dreamorph.fingerprint import fingerprint
from dreamorph.hallucination import AuditConfig, Gate
from dreamorph.pipelines.common import Items, progress, replay, sources_of, trusted
from dreamorph.prior import DeformationPrior
from dreamorph.volumes.cohort import Cohort

#: Dreams rendered and judged together.
CHUNK = 8


def plan_dreams(
    cohort: Cohort,
    prior: DeformationPrior,
    pair_table: pd.DataFrame,
    dreaming: DreamConfig,
    audit: AuditConfig,
) -> pd.DataFrame:
    """Draw the recipes of the pool, sources and classes in turn."""
    sources = sources_of(cohort)
    members = [prior.members.index(case) for case in sources.cases if case in prior.members]
    generator = torch.Generator().manual_seed(dreaming.seed)
    recipes = Dreamer(prior, dreaming.scale).recipes(dreaming.pool, members, generator)
    plan = recipes_to_table(recipes)
    limits = fingerprint(VERSION, audit.of_the_gate(), trusted(pair_table)["key"].to_list())
    rows = plan.astype(str).to_numpy().tolist()
    return plan.assign(key=[f"{row[0]}-{fingerprint(row, limits)}" for row in rows])


def judge_dreams(
    cohort: Cohort,
    prior: DeformationPrior,
    plan: pd.DataFrame,
    pair_table: pd.DataFrame,
    audit: AuditConfig,
    done: Items,
) -> Iterator[dict[str, Any]]:
    """Make each dream that is not judged yet and hold it against the gate."""
    found = _judge(cohort, prior, plan, pair_table, audit, set(done))
    yield from progress(found, list(plan["key"]), done, "dreams")


def _judge(
    cohort: Cohort,
    prior: DeformationPrior,
    plan: pd.DataFrame,
    pair_table: pd.DataFrame,
    audit: AuditConfig,
    done: set[str],
) -> Iterator[dict[str, Any]]:
    missing = plan[~plan["key"].isin(done)]
    if missing.empty:
        return
    sources = sources_of(cohort)
    gate = Gate(sources, trusted(pair_table), audit, prior.fingerprint)
    for start in range(0, len(missing), CHUNK):
        part = missing.iloc[start : start + CHUNK]
        judged = gate.judge(replay(prior, sources, recipes_from_table(part)))
        for key, row in zip(part["key"], judged.to_dict("records"), strict=True):
            yield {key: row}


def collect_dreams(plan: pd.DataFrame, judged: Items) -> pd.DataFrame:
    """Recipes with what the gate said of them."""
    rows = pd.DataFrame([judged[key] for key in plan["key"]])
    return pd.concat([plan, rows.drop(columns=["dream", "source"])], axis=1)


def save_dreams(
    cohort: Cohort,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    dreaming: DreamConfig,
    done: StoredItems,
) -> Iterator[dict[str, Any]]:
    """Write some accepted dreams as volumes to look at, in the place of their source."""
    chosen = dream_table[dream_table["accepted"]].head(dreaming.saved)
    yield done.stale(list(chosen["key"]))
    missing = chosen[~chosen["key"].isin(set(done))]
    sources = sources_of(cohort)
    for row in range(len(missing)):
        part = missing.iloc[row : row + 1]
        dream = replay(prior, sources, recipes_from_table(part))
        affine = cohort.affines[cohort.index_of(dream.recipes[0].source)]
        yield {
            part["key"].iloc[0]: {
                "image": dream.images[0, 0],
                "label": dream.labels[0, 0] if sources.n_labels else None,
                "affine": affine,
            }
        }
