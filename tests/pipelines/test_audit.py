"""What the audit step hands to the checks."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.dreaming.dreams import Recipe, recipes_to_table
from dreamorph.errors import DreamError
from dreamorph.hallucination import AuditConfig
from dreamorph.hallucination.config import STATED
from dreamorph.hallucination.lineage import lineage
from dreamorph.pipelines.audit import nodes
from dreamorph.volumes.cohort import Cohort
from tests.hallucination.worlds import World, make_world, net_evidence


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(subjects=6, each=2)


@pytest.fixture(scope="module")
def cohort(world: World) -> Cohort:
    """Six training subjects, and six test subjects of a world of their own."""
    reals, tests = world.evidence.reals, make_world(subjects=6, each=1, seed=9).evidence.reals
    images = torch.cat([reals.images, tests.images])
    table = pd.DataFrame(
        {
            "case": [*reals.cases, *(f"test_{k}" for k in range(6))],
            "subject": [*reals.subjects, *(f"t{k}" for k in range(6))],
            "class": None,
            "split": ["train"] * 6 + ["test"] * 6,
            "labelled": True,
            "fingerprint": [f"{k:016x}" for k in range(12)],
        }
    )
    return Cohort(
        table, images, torch.cat([reals.labels, tests.labels]).byte(),
        torch.cat([reals.masks, tests.masks]), np.tile(np.eye(4), (12, 1, 1)), (1.0, 1.0, 1.0),
        {1: "first", 2: "second"}, [], "MR",
    )  # fmt: skip


def prior_of(cases: list[str], subjects: list[str]) -> SimpleNamespace:
    return SimpleNamespace(members=cases, subjects=subjects)


def pairs_of(cases: list[str], subjects: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fixed_case": cases[:-1], "fixed_subject": subjects[:-1],
            "moving_case": cases[1:], "moving_subject": subjects[1:],
        }
    )  # fmt: skip


NOBODY: tuple[list[str], list[str]] = ([], [])


@pytest.mark.parametrize(
    ("of_prior", "of_pairs", "said"),
    [
        (NOBODY, NOBODY, ""),
        ((["gone"], ["t2"]), NOBODY, "(gone): failed closed"),
        ((["gone"], ["s99"]), NOBODY, "(gone): failed closed"),
        (NOBODY, (["gone"], ["t2"]), "(gone): failed closed"),
        ((["case_s01"], ["t2"]), NOBODY, "same subject: case_s01"),
        (NOBODY, (["case_s01"], ["t2"]), "same subject: case_s01"),
        ((["test_2"], ["s99"]), NOBODY, "same case: test_2"),
    ],
)
def test_lineage_holds_what_prior_and_pairs_were_made_of(
    world: World,
    cohort: Cohort,
    of_prior: tuple[list[str], list[str]],
    of_pairs: tuple[list[str], list[str]],
    said: str,
) -> None:
    """Also what today's cohort does not know, or by another subject."""
    cases, subjects = cohort.cases[:6], [str(s) for s in cohort.table["subject"][:6]]
    prior = prior_of(cases + of_prior[0], subjects + of_prior[1])
    pairs = pairs_of(cases + of_pairs[0], subjects + of_pairs[1])
    rows = nodes._lineage(cohort, prior, pairs)  # type: ignore[arg-type]
    found = lineage(dataclasses.replace(world.evidence, lineage=rows), world.config)
    assert found.passed is (not said)
    assert said in found.detail


def plan_of(arms: tuple[str, ...], seeds: tuple[int, ...]) -> pd.DataFrame:
    rows = [[arm, seed, f"{arm}-{seed}"] for arm in arms for seed in seeds]
    return pd.DataFrame(rows, columns=["arm", "seed", "key"])


def test_every_training_of_the_judged_networks_is_shown_every_label(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(("none", "elastic", "dream", "learned"), (0, 3))
    asked: list[str] = []
    monkeypatch.setattr(nodes, "from_item", lambda key: SimpleNamespace(build=lambda: key))
    monkeypatch.setattr(nodes, "_answers", lambda key, _: asked.append(key) or torch.zeros_like)
    choice = {"recommended_arm": "learned"}
    table = nodes.paint_out(
        cohort, plan, {k: k for k in plan["key"]}, choice, AuditConfig(), "auto", ""
    )
    assert asked == ["dream-0", "dream-3", "learned-0", "learned-3"]
    cells = table[["arm", "seed", "label", "structure"]].drop_duplicates()
    assert cells.to_numpy().tolist() == [
        [arm, seed, label, name]
        for arm in ("dream", "learned")
        for seed in (0, 3)
        for label, name in ((1, "first"), (2, "second"))
    ]
    tests = cohort.table.loc[cohort.table["split"] == "test", "case"]
    assert set(table["case"]) == set(tests)


def test_test_volumes_are_drawn_at_random(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "TESTS", 3)
    found = {tuple(nodes._shown(cohort, AuditConfig(seed=seed)).cases) for seed in range(5)}
    assert len(found) > 1
    shown = nodes._shown(cohort, AuditConfig())
    rows = [cohort.index_of(case) for case in shown.cases]
    assert torch.equal(shown.images, cohort.images[rows])
    assert torch.equal(shown.labels, cohort.labels[rows])
    assert shown.subjects == [str(cohort.table["subject"][row]) for row in rows]


def test_a_label_that_a_test_case_rightly_lacks_spoils_no_claim(cohort: Cohort) -> None:
    """The arms that draw nothing there are compared as ever."""
    evidence = net_evidence(subjects=8)
    plain = evidence.baseline.assign(arm=nodes.ATLAS, seed=0)
    cases = pd.concat([evidence.cases, plain]).assign(volume_ml=1.0, reference_ml=1.0)
    absent = (cases["case"] == "0L") & (cases["label"] == 2)
    cases = cases.assign(dice=cases["dice"].mask(absent))
    none = pd.DataFrame()

    def claims(table: pd.DataFrame) -> set[tuple[str, str, str]]:
        choice = {"recommended_arm": nodes.NOT_CHOSEN}
        rows = nodes.audit_nets(cohort, table, none, choice, AuditConfig())
        return {(row.name, row.severity, row.verdict) for row in rows if row.name in STATED}

    assert claims(cases) == {(name, "gate", "fail") for name in STATED}
    cases.loc[cases["dice"].isna(), ["volume_ml", "reference_ml"]] = 0.0
    assert claims(cases) == {(name, "claim", "pass") for name in STATED}


def test_a_verdict_names_what_it_is_of() -> None:
    _, verdict = nodes.decide([], [], "mark")
    assert verdict == {"verdict": "fail", "judged": "mark"}  # no check was made


def test_the_checks_look_at_accepted_dreams_and_know_of_the_others(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them, as many as are looked at, made again from their recipes."""
    recipes = [Recipe(f"d{k}", "case_s00", "s00", None, k, "p", 1.0, (0.0,)) for k in range(5)]
    table = recipes_to_table(recipes).assign(
        accepted=[False, True, True, False, True], reason=["folds", "", "", "topology", ""]
    )
    monkeypatch.setattr(nodes, "DREAMS", 2)
    monkeypatch.setattr(nodes, "trusted", lambda pairs: pairs)
    monkeypatch.setattr(nodes, "replay", lambda prior, sources, found: found)
    monkeypatch.setattr(nodes, "run_checks", lambda stage, evidence, audit: [(stage, evidence)])
    prior = SimpleNamespace(members=cohort.cases[:6], subjects=cohort.cases[:6], fingerprint="p")
    pairs = pairs_of(cohort.cases[:6], cohort.cases[:6])

    def audit(dreams: pd.DataFrame) -> Any:
        return nodes.audit_dreams(cohort, prior, pairs, dreams, AuditConfig())  # type: ignore[arg-type]

    ((stage, evidence),) = audit(table)
    assert stage == "dreams"
    assert [recipe.dream for recipe in evidence.dreams] == ["d1", "d2"]
    assert evidence.rejected == {"folds": 1, "topology": 1}
    assert evidence.prior_fingerprint == "p"
    assert set(evidence.lineage["role"]) >= {"registration", "prior", "training", "test"}
    none = table.assign(accepted=False, reason="folds")
    with pytest.raises(DreamError, match="none of the 5 dreams passed the gate"):
        audit(none)
