"""Nodes of the registration step."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from dreamorph.hallucination import pair_jacobians
from dreamorph.pipelines.common import Items, classes_of, progress
from dreamorph.prior import population_affines
from dreamorph.registration import RegistrationConfig
from dreamorph.registration.groupwise import (
    Alignment,
    Group,
    member_rows,
    quality_table,
    register_plan,
)
from dreamorph.registration.pairing import PairingConfig, choose_pairs
from dreamorph.spatial import SpatialTransform
from dreamorph.volumes.cohort import Cohort

#: Pairs whose Jacobians are computed at once.
_CHUNK = 8


def plan_pairs(
    cohort: Cohort, pairing: PairingConfig, registration: RegistrationConfig
) -> pd.DataFrame:
    """Choose the pairs among the members of the prior; test subjects are never among them."""
    table = cohort.table.iloc[member_rows(cohort)]
    train = (table["split"] == "train").to_list()
    rows = range(len(table))
    plan = choose_pairs(
        [k for k in rows if train[k]],
        [k for k in rows if not train[k]],
        classes_of(table),
        pairing,
    )
    keys = Group.of_members(cohort).keys(plan, affine_only(registration), "affine")
    return plan.assign(key=keys)


def align_pairs(
    cohort: Cohort, plan: pd.DataFrame, registration: RegistrationConfig, done: Items
) -> Iterator[dict[str, Any]]:
    """Affine registration of each pair that is not done yet."""
    group = Group.of_members(cohort)
    found = register_plan(group, plan, list(plan["key"]), affine_only(registration), set(done))
    yield from progress(found, list(plan["key"]), done, "affine pairs")


def reconcile_affines(cohort: Cohort, plan: pd.DataFrame, alignments: Items) -> Alignment:
    """One affine map per member out of those of the pairs, and the members in the common space."""
    affines = torch.stack([alignments[key]["affine"] for key in plan["key"]])
    failed = [bool(alignments[key].get("failure")) for key in plan["key"]]
    rows = member_rows(cohort)
    fixed, moving = list(plan["fixed"]), list(plan["moving"])
    maps = population_affines(affines, fixed, moving, len(rows), failed=failed)
    group = Group.of_members(cohort).in_common_space(maps)
    return Alignment(tuple(cohort.cases[k] for k in rows), maps, group)


def plan_deformations(
    alignment: Alignment, plan: pd.DataFrame, registration: RegistrationConfig
) -> pd.DataFrame:
    """The same pairs, to be registered in the common space."""
    keys = alignment.group.keys(plan, deformable_only(registration), "velocity")
    return plan.assign(affine_key=plan["key"], key=keys)


def register_pairs(
    alignment: Alignment, plan: pd.DataFrame, registration: RegistrationConfig, done: Items
) -> Iterator[dict[str, Any]]:
    """Deformable registration of each pair that is not done yet."""
    found = register_plan(
        alignment.group, plan, list(plan["key"]), deformable_only(registration), set(done)
    )
    yield from progress(found, list(plan["key"]), done, "deformable pairs")


def judge_pairs(
    cohort: Cohort, alignment: Alignment, plan: pd.DataFrame, alignments: Items, pairs: Items
) -> pd.DataFrame:
    """Quality of every pair before any map, after its affine map, and after the whole chain."""
    affine = quality_table(plan, [alignments[key] for key in plan["affine_key"]])
    table = quality_table(plan, [pairs[key] for key in plan["key"]])
    for name in ("similarity", "dice"):
        table[f"{name}_affine"] = table[f"{name}_before"]
        table[f"{name}_before"] = affine[f"{name}_before"]
    members = cohort.table.iloc[member_rows(cohort)].reset_index(drop=True)
    failures = [alignments[key].get("failure", "") for key in plan["affine_key"]]
    table["set_aside"] = [a or b for a, b in zip(failures, table["set_aside"], strict=True)]
    for side in ("fixed", "moving"):
        for name in ("case", "subject"):
            table[f"{side}_{name}"] = members[name].loc[table[side]].to_numpy()
    table = table.drop(columns=["log_jacobian_min", "log_jacobian_max"])
    jacobians = _jacobians(cohort, alignment, table, [pairs[key] for key in plan["key"]])
    return pd.concat([table, jacobians], axis=1).assign(key=plan["key"])


def _jacobians(
    cohort: Cohort, alignment: Alignment, table: pd.DataFrame, pairs: list[dict[str, Any]]
) -> pd.DataFrame:
    """Range of the Jacobian of each pair's whole map between the volumes' own grids.

    Of the map as dreams use it, so that both ranges compare; the folds beside it are those of the
    deformable map in the common space.
    """
    group = Group.of_members(cohort)
    parts = []
    for start in range(0, len(table), _CHUNK):
        part = table.iloc[start : start + _CHUNK]
        i, j = part["fixed"].to_list(), part["moving"].to_list()
        transform = SpatialTransform(
            torch.linalg.inv(alignment.affines[i]),
            torch.stack([pair["velocity"] for pair in pairs[start : start + _CHUNK]]),
            alignment.affines[j],
            tuple(group.images.shape[2:]),
            group.spacing_mm,
        )
        subjects = list(part["fixed_subject"]), list(part["moving_subject"])
        parts.append(pair_jacobians(transform, group.masks[i], *subjects))
    return pd.concat(parts, ignore_index=True)[["log_jacobian_min", "log_jacobian_max"]]


def affine_only(config: RegistrationConfig) -> RegistrationConfig:
    """The affine step alone, which no label guides."""
    return config.model_copy(update={"velocity": None, "label_weight": 0.0})


def deformable_only(config: RegistrationConfig) -> RegistrationConfig:
    """The deformable step alone."""
    return config.model_copy(update={"affine": None})
