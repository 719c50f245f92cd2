"""Nodes of the prior step."""

import logging

import pandas as pd
import torch

from dreamorph.errors import PriorError
from dreamorph.pipelines.common import Items, classes_of, task_of, trusted
from dreamorph.prior import DeformationPrior, PriorConfig, largest_group, solve_population
from dreamorph.prior.basis import CosineBasis
from dreamorph.registration.groupwise import Alignment, member_rows
from dreamorph.spatial import extent
from dreamorph.volumes.cohort import Cohort

logger = logging.getLogger(__name__)

_FEWEST_MEMBERS, _FEWEST_SUBJECTS, _FEWEST_SOURCES = 3, 2, 1


def learn_prior(
    cohort: Cohort,
    alignment: Alignment,
    pair_table: pd.DataFrame,
    pairs: Items,
    config: PriorConfig,
) -> tuple[DeformationPrior, dict[str, float]]:
    """Fit the prior to the pairs that were not set aside, over the members that they join."""
    members = cohort.table.iloc[member_rows(cohort)].reset_index(drop=True)
    used = trusted(pair_table)
    kept = largest_group(
        list(used["fixed"]), list(used["moving"]), list(members["split"] == "train")
    )
    failed = len(pair_table) - len(used)
    _check_left_out(cohort, members, kept, f"{failed} of {len(pair_table)}")
    prior = fit_to(kept, cohort, alignment, pair_table, pairs, config)
    left = {"left_out": float(len(members) - len(kept)), "pairs_set_aside": float(failed)}
    return prior, prior.diagnostics | left


def fit_to(
    kept: list[int],
    cohort: Cohort,
    alignment: Alignment,
    pair_table: pd.DataFrame,
    pairs: Items,
    config: PriorConfig,
) -> DeformationPrior:
    """The prior of some members, from the trusted pairs among them and no others.

    Raises:
        PriorError: fewer than three members are left.
    """
    used = trusted(pair_table)
    used = used[used["fixed"].isin(kept) & used["moving"].isin(kept)]
    if len(kept) < _FEWEST_MEMBERS:
        raise PriorError(f"a prior needs {_FEWEST_MEMBERS} volumes that pairs join")
    place = {member: row for row, member in enumerate(kept)}
    extent_mm = extent(cohort.shape, cohort.spacing_mm)
    coarse = pairs[used["key"].iloc[0]]["velocity"].shape[1:]
    basis = CosineBasis.up_to(coarse, extent_mm, config.wavelength_voxels)
    # pair by pair: the fields of 1,225 pairs would take gigabytes, their coefficients do not
    seen = torch.empty(len(used), basis.size, dtype=torch.float64)
    for row, key in enumerate(used["key"]):
        seen[row] = basis.analyse(pairs[key]["velocity"][None].double())[0]
    population = solve_population(
        seen,
        [place[member] for member in used["fixed"]],
        [place[member] for member in used["moving"]],
        len(kept),
    )
    table = cohort.table.iloc[member_rows(cohort)].iloc[kept]
    return DeformationPrior(config).fit(
        population.without_noise(basis).float(),
        extent_mm,
        alignment.affines[kept],
        [alignment.cases[member] for member in kept],
        list(table["subject"]),
        classes_of(table),
    )


def _check_left_out(cohort: Cohort, members: pd.DataFrame, kept: list[int], failed: str) -> None:
    """Tell of members that no trusted pair joins to the rest; stop where too few remain.

    Raises:
        PriorError: fewer members, subjects or labelled volumes remain than a prior needs, or a
            class that networks must tell apart has none left to be dreamed.
    """
    table, lost = members.iloc[kept], members.drop(index=kept)
    sources = table[table["split"] == "train"]
    gone = sorted(set(cohort.class_names) - set(classes_of(sources)))
    why = f"{failed} registered pairs were set aside; the others join"
    hint = (
        "see the reasons in pair_table.csv; more pairs (pairing.labelled, pairing.per_unlabelled) "
        "or a gentler registration (registration.velocity.diffusion) may join them"
    )
    if (
        len(kept) < _FEWEST_MEMBERS
        or table["subject"].nunique() < _FEWEST_SUBJECTS
        or len(sources) < _FEWEST_SOURCES
    ):
        raise PriorError(
            f"{why} only {len(kept)} of {len(members)} volumes, {len(sources)} of them labelled: "
            f"a prior needs {_FEWEST_MEMBERS} of {_FEWEST_SUBJECTS} subjects, one labelled; {hint}"
        )
    if gone and task_of(cohort) == "classification":
        raise PriorError(
            f"{why} {len(kept)} of {len(members)} volumes, none of them a labelled one of class "
            f"{', '.join(gone)}, so that class could not be dreamed; {hint}"
        )
    if len(lost):
        n_labelled = int((lost["split"] == "train").sum())
        logger.warning(
            "the prior leaves out %d of %d volumes, %d of them labelled, which cannot be sources "
            "of dreams: only pairs that were set aside (%s) join them to the rest: %s%s",
            len(lost),
            len(members),
            n_labelled,
            failed,
            ", ".join(lost["case"].astype(str)),
            f"; no dream will show class {', '.join(gone)}" if gone else "",
        )
