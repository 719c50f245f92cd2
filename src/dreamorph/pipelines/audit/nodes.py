"""Nodes of the audit step."""

import dataclasses
from itertools import chain
from typing import Any

import pandas as pd
import torch

from dreamorph.dreaming.dreams import recipes_from_table
from dreamorph.errors import DreamError
from dreamorph.evaluation import with_absent_labels
from dreamorph.hallucination import (
    AuditConfig,
    CheckResult,
    DreamEvidence,
    NetEvidence,
    TestImages,
    draw_shown,
    lineage_rows,
    measure_removal,
    overall_verdict,
    recorded_rows,
    rejection_counts,
    run_checks,
    tags,
    to_table,
)
from dreamorph.hallucination.evidence import REMOVAL_COLUMNS
from dreamorph.hallucination.removal import Predict
from dreamorph.pipelines.common import Items, replay, sources_of, task_of, trusted
from dreamorph.pipelines.current import JUDGED
from dreamorph.pipelines.evaluate.nodes import ATLAS, SHAPE, WITH_ATLAS
from dreamorph.pipelines.train.nodes import NOT_CHOSEN, from_item, stored_network
from dreamorph.prior import DeformationPrior
from dreamorph.registration.groupwise import member_rows
from dreamorph.training import predict
from dreamorph.volumes.cohort import Cohort

#: Accepted dreams that the checks look at, and test volumes that structures are painted out of.
DREAMS, TESTS = 120, 24


def audit_dreams(
    cohort: Cohort,
    prior: DeformationPrior,
    pair_table: pd.DataFrame,
    dream_table: pd.DataFrame,
    audit: AuditConfig,
) -> list[CheckResult]:
    """Hold the accepted dreams against the real volumes.

    Raises:
        DreamError: no dream was accepted.
    """
    accepted = dream_table[dream_table["accepted"]].head(DREAMS)
    if accepted.empty:
        counts = rejection_counts([dream_table])
        reasons = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DreamError(
            f"none of the {len(dream_table)} dreams passed the gate ({reasons}), so there is "
            "nothing to train on: draw more (dreaming.pool) or gentler ones (dreaming.scale)"
        )
    sources = sources_of(cohort)
    evidence = DreamEvidence(
        reals=sources,
        dreams=replay(prior, sources, recipes_from_table(accepted)),
        pairs=trusted(pair_table),
        lineage=_lineage(cohort, prior, pair_table),
        prior_fingerprint=prior.fingerprint,
        rejected=rejection_counts([dream_table]),
    )
    return run_checks("dreams", evidence, audit)


def paint_out(
    cohort: Cohort,
    plan: pd.DataFrame,
    arms: Items,
    choice: dict[str, Any],
    audit: AuditConfig,
    device: str,
    judged: str,
) -> pd.DataFrame:
    """Show test volumes without their structures to every training of the networks judged.

    Not before it is known that results belong together (`judged`): it takes its time.
    """
    if task_of(cohort) == "classification":
        return pd.DataFrame(columns=list(REMOVAL_COLUMNS))
    shown = _shown(cohort, audit)
    tables = [pd.DataFrame(columns=list(REMOVAL_COLUMNS))]
    for row in plan[plan["arm"].isin(_judged(choice))].itertuples(index=False):
        item = stored_network(arms, str(row.arm), str(row.key))
        answer = _answers(from_item(item).build(), device)
        for label, name in cohort.label_names.items():
            one = dataclasses.replace(shown, structure=label, name=name)
            tables.append(measure_removal(answer, one, audit, str(row.arm), int(str(row.seed))))
    return pd.concat([t for t in tables if len(t)] or tables, ignore_index=True)


def audit_nets(
    cohort: Cohort,
    cases: pd.DataFrame,
    removal: pd.DataFrame,
    choice: dict[str, Any],
    audit: AuditConfig,
) -> list[CheckResult]:
    """Hold the trained networks against plain methods, random warps and empty images."""
    segmentation = task_of(cohort) == "segmentation"
    plain = ATLAS if segmentation else SHAPE
    table = with_absent_labels(cases) if segmentation else cases.assign(label=0)
    alone = (table["arm"] != plain) & ~table["arm"].str.endswith(WITH_ATLAS)
    evidence = NetEvidence(
        cases=table[alone],
        baseline=table[table["arm"] == plain],
        removal=None if removal.empty else removal,
        n_labels=cohort.n_labels,
        metric="dice" if segmentation else "balanced_accuracy",
        judged_arms=_judged(choice),
    )
    return run_checks("nets", evidence, audit)


def decide(
    dream_checks: list[CheckResult], net_checks: list[CheckResult], judged: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """All checks in one table, and the verdict with the claims that did not hold.

    With the mark of what was judged, so that no later report shows it beside something else.
    """
    results = [*dream_checks, *net_checks]
    verdict = {"verdict": overall_verdict(results)} | tags(results)
    return to_table(results), verdict | {JUDGED: judged}


def _judged(choice: dict[str, Any]) -> tuple[str, ...]:
    """The dream arm, and the one whose network the run recommends."""
    recommended = choice["recommended_arm"]
    return tuple(dict.fromkeys(["dream", *([] if recommended == NOT_CHOSEN else [recommended])]))


def _shown(cohort: Cohort, audit: AuditConfig) -> TestImages:
    """The test volumes that structures are painted out of."""
    tests = cohort.select(cohort.indices("test"))
    subjects = [str(s) for s in tests.table["subject"]]
    rows = draw_shown(tests.labels, subjects, cohort.n_labels, TESTS, audit)
    tests = tests.select(rows)
    return TestImages(
        images=tests.images,
        labels=tests.labels,
        masks=tests.masks,
        cases=tests.cases,
        subjects=[subjects[row] for row in rows],
        spacing_mm=tests.spacing_mm,
    )


def _answers(network: torch.nn.Module, device: str) -> Predict:
    """From images to label maps."""

    def answer(images: torch.Tensor) -> torch.Tensor:
        return predict(network, images, device=device).argmax(dim=1, keepdim=True)

    return answer


def _lineage(cohort: Cohort, prior: DeformationPrior, pair_table: pd.DataFrame) -> pd.DataFrame:
    """Which case played which role: in what was made before, and in the cohort as it is now."""
    subjects = [str(s) for s in cohort.table["subject"]]
    known = lineage_rows("known", cohort.cases, subjects, cohort.images, cohort.masks)
    sides = [
        zip(pair_table[f"{side}_case"], pair_table[f"{side}_subject"], strict=True)
        for side in ("fixed", "moving")
    ]
    before = {
        "registration": chain(*sides),
        "prior": zip(prior.members, prior.subjects, strict=True),
    }
    now = {
        "members": member_rows(cohort),
        "training": cohort.indices("train"),
        "test": cohort.indices("test"),
    }
    parts = [recorded_rows(role, recorded, known) for role, recorded in before.items()]
    parts += [known.iloc[rows].assign(role=role) for role, rows in now.items()]
    return pd.concat(parts, ignore_index=True)
