"""Results of earlier runs belong together, or a run of later steps alone stops.

A run of all steps makes everything anew that its parameters or its data touch. A run of some steps
takes the rest from disk, where it may be of other volumes, dreams or networks by now.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from dreamorph.errors import StaleError
from dreamorph.fingerprint import fingerprint
from dreamorph.pipelines.common import Items
from dreamorph.prior import DeformationPrior
from dreamorph.volumes.cohort import Cohort

#: Where plans, scores and verdicts say what they were made of.
MADE_OF, JUDGED = "made_of", "judged"
#: Counted up when a check measures or judges otherwise: verdicts by earlier rules are given anew.
RULES = 2


def mark_of_plan(
    cohort: Cohort, prior: DeformationPrior, dream_table: pd.DataFrame, choice: dict[str, Any]
) -> str:
    """What networks are planned for: volumes, prior, dreams and choice. Never read as a number."""
    dreams = list(dream_table["key"])
    return f"of-{fingerprint(cohort.fingerprint(), prior.fingerprint, dreams, choice)}"


def mark_of_scores(
    cohort: Cohort, case_table: pd.DataFrame, scores: Iterable[str], plain: Iterable[str]
) -> str:
    """What tables of results are made of: test volumes, and the scores by their keys."""
    files = case_table.loc[case_table["split"] == "test", "label_content"].astype(str).to_list()
    return f"of-{fingerprint(cohort.fingerprint(), files, sorted(scores), sorted(plain))}"


def check_results(
    cohort: Cohort,
    case_table: pd.DataFrame,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    choice: dict[str, Any],
    plan: pd.DataFrame,
    scores: Items,
    plain: Items,
    results: dict[str, Any],
) -> str:
    """The mark of all that is about to be judged.

    Raises:
        StaleError: networks are of other volumes, dreams, priors or choices than there are now, or
            were trained after they were scored, or scores are of other volumes.
    """
    mark = mark_of_plan(cohort, prior, dream_table, choice)
    if MADE_OF not in plan or set(plan[MADE_OF]) != {mark}:
        raise StaleError(
            "networks were planned for other volumes, dreams or tuned warps than there are now, or"
            " by an older version: run all steps again (what is unchanged is not done again)"
        )
    for row in plan.itertuples(index=False):
        if not any(str(key).startswith(f"{row.key}-") for key in scores):
            raise StaleError(
                f"the network of arm {row.arm} was trained after networks were scored: run"
                " --pipelines evaluate,audit,report, or all steps, again"
            )
    mark = mark_of_scores(cohort, case_table, scores, plain)
    if results.get(MADE_OF) != mark:
        raise StaleError(
            "the tables of results are of other volumes or scores than there are now: run"
            " --pipelines evaluate,audit,report, or all steps, again"
        )
    return fingerprint(RULES, mark, list(plan["key"]), sorted(set(plan[MADE_OF])))


def check_verdict(
    verdict: dict[str, str],
    cohort: Cohort,
    case_table: pd.DataFrame,
    prior: DeformationPrior,
    dream_table: pd.DataFrame,
    choice: dict[str, Any],
    plan: pd.DataFrame,
    scores: Items,
    plain: Items,
    results: dict[str, Any],
) -> dict[str, str]:
    """The verdict, where it is of what there is now.

    Raises:
        StaleError: it is of something else, or was given by an older version.
    """
    mark = check_results(
        cohort, case_table, prior, dream_table, choice, plan, scores, plain, results
    )
    if verdict.get(JUDGED) != mark:
        raise StaleError(
            "the verdict is of other volumes, networks or dreams than there are now, or by an older"
            " version: run --pipelines audit,report, or all steps, again"
        )
    return verdict
