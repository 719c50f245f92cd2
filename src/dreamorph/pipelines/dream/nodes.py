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
from dreamorph.hallucination.gate import VERSION as GATE
from dreamorph.pipelines.common import Items, progress, replay, sources_of, trusted
from dreamorph.prior import DeformationPrior
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.records import CohortFacts

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
    known = cohort.table.loc[cohort.indices("train"), ["fingerprint", "subject", "class"]]
    limits = fingerprint(
        VERSION, GATE, audit.of_the_gate(), trusted(pair_table)["key"].to_list(),
        known.astype(str).to_numpy().tolist(),
    )  # fmt: skip
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
    facts: dict[str, Any],
    dreaming: DreamConfig,
    done: StoredItems,
) -> Iterator[dict[str, Any]]:
    """Write some accepted dreams as volumes to look at, in the place of their source.

    Labels have the values that the cohort's own files give them.
    """
    chosen = dream_table[dream_table["accepted"]].head(dreaming.saved)
    value_of = {
        index: value for value, index in CohortFacts.model_validate(facts).label_values.items()
    }
    sources = sources_of(cohort)
    # shapes without label maps are their own label, which no file has a value for
    values = torch.tensor([value_of.get(index, index) for index in range(sources.n_labels + 1)])
    affines = {name: cohort.affines[cohort.index_of(name)] for name in set(chosen["source"])}
    chosen = chosen.assign(
        key=[
            f"{dream}-{fingerprint(key, affines[source], values)}"
            for dream, key, source in zip(
                chosen["dream"], chosen["key"], chosen["source"], strict=True
            )
        ]
    )
    yield done.stale(list(chosen["key"]))
    missing = chosen[~chosen["key"].isin(set(done))]
    for row in range(len(missing)):
        part = missing.iloc[row : row + 1]
        dream = replay(prior, sources, recipes_from_table(part))
        yield {
            part["key"].iloc[0]: {
                "image": dream.images[0, 0],
                "label": values[dream.labels[0, 0].long()] if sources.n_labels else None,
                "affine": affines[dream.recipes[0].source],
            }
        }
