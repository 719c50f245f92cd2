"""Nodes of the reporting step."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel

from dreamorph import __version__
from dreamorph.datasets.simulated import SimulatedFolder
from dreamorph.dreaming.dreams import recipes_from_table
from dreamorph.pipelines.common import (
    Items,
    replay,
    sources_of,
    task_of,
    trusted,
    velocities_of,
)
from dreamorph.pipelines.evaluate.nodes import SCORED_BY
from dreamorph.pipelines.ingest.nodes import of_simulated
from dreamorph.prior import DeformationPrior
from dreamorph.registration.groupwise import Alignment, Group
from dreamorph.reporting import ReportInputs, draw_report, summarise
from dreamorph.reporting.config import ReportConfig
from dreamorph.reporting.encode import png_bytes
from dreamorph.simulation import Truth, mode_recovery, registration_error_mm
from dreamorph.spatial import SpatialTransform
from dreamorph.tracking.parameters import HIDDEN
from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.config import CohortConfig

#: Dreams and pairs that the report shows, and pairs whose true maps are compared.
DREAMS, EXAMPLES, JUDGED = 24, 2, 48


def judge_recovery(
    config: CohortConfig,
    origin: Items,
    folder: SimulatedFolder,
    cohort: Cohort,
    alignment: Alignment,
    pair_table: pd.DataFrame,
    pairs: Items,
    prior: DeformationPrior,
) -> dict[str, Any]:
    """How well registration and prior recovered the truth of simulated patients; else nothing."""
    if not of_simulated(config, origin):
        return {}
    truth = Truth.load(folder.truth)
    part = trusted(pair_table).head(JUDGED)
    fixed, moving = list(part["fixed_case"]), list(part["moving_case"])
    masks = cohort.masks[[cohort.index_of(case) for case in fixed]]
    transform = _whole_maps(cohort, alignment, part, pairs)
    errors = registration_error_mm(truth, fixed, moving, transform, masks)
    modes = mode_recovery(
        truth.velocities[truth.rows(prior.members)],
        prior.fields,
        truth.directions,
        truth.extent_mm,
        prior.extent_mm,
    )
    return {
        "registration": {name: values.tolist() for name, values in vars(errors).items()},
        "modes": asdict(modes),
    }


def write_report(
    config: CohortConfig,
    origin: Items,
    cohort: Cohort,
    quarantine: pd.DataFrame,
    alignment: Alignment,
    pair_table: pd.DataFrame,
    pairs: Items,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    cases: pd.DataFrame,
    comparisons: pd.DataFrame,
    tuning_scores: pd.DataFrame,
    choice: dict[str, Any],
    arms: Items,
    scores: Items,
    checks: pd.DataFrame,
    verdict: dict[str, str],
    recovery: dict[str, Any],
    report: ReportConfig,
    parameters: dict[str, Any],
    git_commit: str,
    earlier: list[str],
) -> tuple[str, dict[str, bytes], str]:
    """One self-contained page, and for the dashboard its pictures and what it says first."""
    recipes = recipes_from_table(dream_table[dream_table["accepted"]].head(DREAMS))
    inputs = ReportInputs(
        study=report.title,
        simulated=of_simulated(config, origin),
        task=task_of(cohort),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        version=__version__,
        git_commit=git_commit,
        earlier=earlier,
        cohort=cohort,
        quarantine=quarantine,
        pairs=pair_table.assign(set_aside=pair_table["set_aside"].astype(object).fillna("")),
        common=_members_of(prior, alignment),
        pair_examples=_examples(cohort, prior, pair_table, pairs),
        prior=prior,
        dreams=replay(prior, sources_of(cohort), recipes) if recipes else None,
        dream_table=dream_table,
        cases=cases,
        comparisons=comparisons,
        history=_history(arms),
        tuning=tuning_scores,
        choice=choice,
        checks=checks,
        verdict=verdict["verdict"],
        recovery=recovery or None,
        parameters=without_paths(
            parameters
            | {
                "training": _as_trained(parameters, arms),
                "evaluation": _as_scored(parameters, scores),
            }
        ),
        predictions=_predictions(scores),
    )
    page, pictures = draw_report(inputs)
    shown = {picture.name: png_bytes(picture.figure) for picture in pictures}
    return page, shown, summarise(inputs)


def without_paths(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters fit to be shown, without paths and patterns, which may name patients."""
    cohort = dict(parameters.get("cohort") or {})
    for name in ("path", "manifest"):
        if cohort.get(name):
            cohort[name] = HIDDEN
    subject = dict(cohort.get("subject") or {})
    if subject.get("regex"):
        cohort["subject"] = subject | {"regex": HIDDEN}
    return parameters | {"cohort": cohort}


def _as_trained(parameters: dict[str, Any], arms: Items) -> Any:
    """The training that was done: this run's parameters may be others, if it did not train.

    What does not shape a network (which arms and seeds, where, with a progress bar) is this run's.
    """
    asked = _plain(parameters.get("training"))
    done = [arms[key]["params"]["training"] for key in arms]
    kept = ("arms", "seeds", "device", "progress")
    own = {name: asked[name] for name in kept if name in asked}
    return (done[0] | own) if done else asked


def _as_scored(parameters: dict[str, Any], scores: Items) -> dict[str, Any]:
    """The evaluation that was done: this run's parameters may be others, if it did not score."""
    asked = _plain(parameters.get("evaluation"))
    done = [scores[key][SCORED_BY] for key in scores]
    return asked | (done[0] if done else {})


def _plain(config: Any) -> dict[str, Any]:
    return config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config or {})


def _members_of(prior: DeformationPrior, alignment: Alignment) -> Group:
    """The prior's members in the common space, in its order."""
    rows = [alignment.cases.index(member) for member in prior.members]
    group = alignment.group
    return replace(
        group,
        images=group.images[rows],
        labels=group.labels[rows],
        masks=group.masks[rows],
        labelled=group.labelled[rows],
        fingerprints=tuple(group.fingerprints[row] for row in rows),
    )


def _examples(
    cohort: Cohort, prior: DeformationPrior, pair_table: pd.DataFrame, pairs: Items
) -> list[tuple[int, int, SpatialTransform]]:
    """Maps of the pairs that were best and middling, in the common space, by the prior's rows."""
    place = {member: row for row, member in enumerate(prior.members)}
    good = trusted(pair_table)
    good = good[good["fixed_case"].isin(place) & good["moving_case"].isin(place)]
    ranked = good[good["kind"] == "labelled"].sort_values("similarity_after")
    chosen = ranked.iloc[[len(ranked) // 2, -1]] if len(ranked) >= EXAMPLES else ranked
    examples = []
    for row in chosen.to_dict("records"):
        eye = torch.eye(4, dtype=torch.float64)[None]
        velocity = pairs[row["key"]]["velocity"][None]
        transform = SpatialTransform(eye, velocity, eye, cohort.shape, cohort.spacing_mm)
        examples.append((place[row["fixed_case"]], place[row["moving_case"]], transform))
    return examples


def _whole_maps(
    cohort: Cohort, alignment: Alignment, table: pd.DataFrame, pairs: Items
) -> SpatialTransform:
    """Maps of pairs between the volumes' own grids."""
    return SpatialTransform(
        torch.linalg.inv(alignment.affines[list(table["fixed"])]),
        velocities_of(pairs, list(table["key"])),
        alignment.affines[list(table["moving"])],
        cohort.shape,
        cohort.spacing_mm,
    )


def _history(arms: Items) -> pd.DataFrame:
    parts = [
        pd.DataFrame(item["history"]).assign(arm=item["name"], seed=item["seed"])
        for item in (arms[key] for key in arms)
    ]
    return pd.concat(parts, ignore_index=True)


def _predictions(scores: Items) -> dict[str, torch.Tensor]:
    """Label maps of the dream arm's first training by case."""
    keys = {int(key.split("-")[1]): key for key in scores if key.startswith("dream-")}
    return dict(scores[keys[min(keys)]]["labels"]) if keys else {}
