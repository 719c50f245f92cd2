"""Nodes of the prior step."""

import pandas as pd
import torch

from dreamorph.pipelines.common import Items, classes_of
from dreamorph.prior import DeformationPrior, PriorConfig, solve_population
from dreamorph.prior.basis import CosineBasis
from dreamorph.registration.groupwise import Alignment, member_rows
from dreamorph.spatial import extent
from dreamorph.volumes.cohort import Cohort


def learn_prior(
    cohort: Cohort,
    alignment: Alignment,
    pair_table: pd.DataFrame,
    pairs: Items,
    config: PriorConfig,
) -> tuple[DeformationPrior, dict[str, float]]:
    """Fit the prior to the pairs that were not set aside."""
    trusted = pair_table[pair_table["set_aside"].fillna("") == ""]
    population = solve_population(
        torch.stack([pairs[key]["velocity"] for key in trusted["key"]]),
        list(trusted["fixed"]),
        list(trusted["moving"]),
        len(alignment.cases),
    )
    extent_mm = extent(cohort.shape, cohort.spacing_mm)
    coarse = population.fields.shape[2:]
    basis = CosineBasis.up_to(coarse, extent_mm, config.wavelength_voxels)
    table = cohort.table.iloc[member_rows(cohort)]
    prior = DeformationPrior(config).fit(
        population.without_noise(basis),
        extent_mm,
        alignment.affines,
        alignment.cases,
        list(table["subject"]),
        classes_of(table),
    )
    return prior, prior.diagnostics
