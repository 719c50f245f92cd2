"""What the audit step hands to the checks."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.hallucination.lineage import lineage
from dreamorph.pipelines.audit import nodes
from dreamorph.volumes.cohort import Cohort
from tests.hallucination.worlds import World, make_world


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
