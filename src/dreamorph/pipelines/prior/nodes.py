"""Nodes of the prior step."""

import pandas as pd
import torch

from dreamorph.pipelines.common import Items, classes_of
from dreamorph.prior import DeformationPrior, PriorConfig, population_fields
from dreamorph.registration.groupwise import Alignment, member_rows
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
    velocities = torch.stack([pairs[key]["velocity"] for key in trusted["key"]])
    fields = population_fields(
        velocities, list(trusted["fixed"]), list(trusted["moving"]), len(alignment.cases)
    )
    table = cohort.table.iloc[member_rows(cohort)]
    prior = DeformationPrior(config).fit(
        fields,
        [n * s for n, s in zip(cohort.shape, cohort.spacing_mm, strict=True)],
        alignment.affines,
        alignment.cases,
        list(table["subject"]),
        classes_of(table),
    )
    return prior, prior.diagnostics
