from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.hallucination import lineage_rows, recorded_rows
from dreamorph.hallucination.lineage import content_signatures, content_threshold, lineage
from dreamorph.spatial import gaussian_smooth


def leaked(world, role="prior", case="other", subject="s99", change=None):
    """One test case used in `role` under the given names, its content changed or not."""
    table = world.evidence.lineage
    test = table[table["role"] == "test"].iloc[[2]].copy()
    test["role"], test["case"], test["subject"] = role, case, subject
    if change:
        for column, value in change.items():
            test[column] = [value]
    return replace(world.evidence, lineage=pd.concat([table, test], ignore_index=True))


def test_honest_lineage_passes(world):
    found = lineage(world.evidence, world.config)
    assert found.passed
    assert found.value == 0


@pytest.mark.parametrize("role", ["registration", "prior", "training", "anything"])
def test_canary_leaked_subject(world, role):
    """The other side of a test subject, under its own name and with its own content."""
    evidence = leaked(world, role, subject="t02", change={
        "fingerprint": "f" * 16, "signature": world.evidence.lineage["signature"][0],
    })  # fmt: skip
    found = lineage(evidence, world.config)
    assert found.passed is False
    assert "same subject" in found.detail
    assert role in found.detail


def test_canary_same_content_under_another_name(world):
    found = lineage(leaked(world), world.config)
    assert found.passed is False
    assert "same fingerprint: other" in found.detail


def test_canary_same_content_saved_anew(world):
    """Another fingerprint, since the intensities were rescaled; the signature sees through it."""
    found = lineage(leaked(world, change={"fingerprint": "f" * 16}), world.config)
    assert found.passed is False
    assert "same content: other" in found.detail


def test_signature_survives_what_saving_does_to_a_scan(world):
    reals = world.evidence.reals
    first = content_signatures(reals.images, reals.masks)
    table = world.evidence.lineage
    test = table["role"] == "test"
    least = content_threshold(table[test], table[~test], world.config.duplicate_correlation)
    noise = 0.05 * torch.randn(reals.images.shape, generator=torch.Generator().manual_seed(0))
    for copy in (3 * reals.images + 7, gaussian_smooth(reals.images, 0.5), reals.images + noise):
        again = content_signatures(copy * reals.masks, reals.masks)
        assert (first * again).sum(1).min() >= least


def noisy(signature, correlation, seed):
    """A signature that correlates so much with the given one."""
    noise = np.random.default_rng(seed).normal(size=len(signature))
    noise -= (noise @ signature) * signature
    far = np.sqrt(1 - correlation**2) / np.linalg.norm(noise)
    return correlation * signature + far * noise


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)], ids=["the same noise", "other noise"])
def test_canary_a_test_scan_saved_twice(world, seeds):
    """The two copies are alike, which says nothing of how alike two subjects are."""
    table = world.evidence.lineage
    test = table[table["role"] == "test"].iloc[[2]]
    copies = [
        test.assign(role="training", case=f"x{k}", subject=f"y{k}", fingerprint=f"f{k}",
                    signature=[noisy(test["signature"].iloc[0], 0.9948, seed)])
        for k, seed in enumerate(seeds)
    ]  # fmt: skip
    found = lineage(replace(world.evidence, lineage=pd.concat([table, *copies])), world.config)
    assert found.passed is False
    assert "same content: x0, x1" in found.detail


def test_subjects_that_are_alike_are_no_twins(world):
    """All volumes correlate by .96, of test subjects too: more is asked of a copy."""
    table = world.evidence.lineage.copy()
    common = table["signature"].iloc[0]
    codes = pd.factorize(table["case"])[0]
    table["signature"] = [noisy(common, 0.98, int(code)) for code in codes]
    test = table["role"] == "test"
    assert content_threshold(table[test], table[~test], 0.95) > 0.985
    assert lineage(replace(world.evidence, lineage=table), world.config).passed


def test_canary_test_case_as_dream_source(world):
    reals = world.evidence.reals
    subjects = list(reals.subjects)
    subjects[4] = "t01"
    evidence = replace(world.evidence, reals=replace(reals, subjects=subjects))
    found = lineage(evidence, world.config)
    assert found.passed is False
    assert "dream source" in found.detail


def test_canary_recipe_names_another_subject(world):
    recipes = list(world.evidence.dreams.recipes)
    recipes[0] = replace(recipes[0], source_subject="s05")
    evidence = world.with_dreams(replace(world.evidence.dreams, recipes=tuple(recipes)))
    found = lineage(evidence, world.config)
    assert found.passed is False
    assert "dream_0" in found.detail


@pytest.mark.parametrize("role", ["registration", "prior", "training", "test"])
def test_missing_role_fails_closed(world, role):
    table = world.evidence.lineage
    evidence = replace(world.evidence, lineage=table[table["role"] != role])
    found = lineage(evidence, world.config)
    assert found.passed is False
    assert role in found.detail


@pytest.mark.parametrize("column", ["subject", "fingerprint", "case"])
def test_missing_name_fails_closed(world, column):
    table = world.evidence.lineage.copy()
    table.loc[3, column] = None
    found = lineage(replace(world.evidence, lineage=table), world.config)
    assert found.passed is False
    assert column in found.detail


def recorded(world, role="prior", **subjects):
    """The table with a role as an earlier result names it: case -> subject."""
    table = world.evidence.lineage
    known = table[table["role"].isin(["training", "test"])]
    mine = known[known["role"] == "training"]
    names = dict(zip(mine["case"], mine["subject"], strict=True)) | subjects
    rows = recorded_rows(role, names.items(), known)
    rest = table[table["role"] != role]
    return replace(world.evidence, lineage=pd.concat([rest, rows], ignore_index=True))


@pytest.mark.parametrize("role", ["prior", "registration"])
def test_what_was_recorded_is_what_is_known(world, role):
    found = lineage(recorded(world, role), world.config)
    assert found.passed
    assert found.n == lineage(world.evidence, world.config).n


@pytest.mark.parametrize("role", ["prior", "registration"])
def test_canary_a_case_that_nobody_knows_today(world, role):
    """Renamed or gone since: whom it shows cannot be told."""
    found = lineage(recorded(world, role, scan_before_renaming="s99"), world.config)
    assert found.passed is False
    assert "without a fingerprint (scan_before_renaming): failed closed" in found.detail


@pytest.mark.parametrize("role", ["prior", "registration"])
def test_canary_a_case_recorded_as_a_test_subject_s(world, role):
    """The cohort calls its subject another name today."""
    found = lineage(recorded(world, role, case_s03="t02"), world.config)
    assert found.passed is False
    assert "same subject: case_s03" in found.detail
    assert role in found.detail


def test_canary_a_test_case_recorded_under_another_subject(world):
    found = lineage(recorded(world, case_t02="s99"), world.config)
    assert found.passed is False
    assert "same case: case_t02" in found.detail


def test_a_case_under_two_subjects_hides_no_copy_of_a_test_scan(world):
    """It looks like itself, which says nothing of how alike two subjects are."""
    evidence = recorded(world, case_s03="an older name")
    assert lineage(evidence, world.config).passed
    table = evidence.lineage
    test = table[table["role"] == "test"].iloc[[2]]
    near = 0.992 * test["signature"].iloc[0]
    copy = test.assign(role="prior", case="x", subject="y", fingerprint="f", signature=[near])
    found = lineage(replace(evidence, lineage=pd.concat([table, copy])), world.config)
    assert found.passed is False
    assert "same content: x" in found.detail


def test_a_recorded_subject_that_is_missing_fails_closed(world):
    found = lineage(recorded(world, case_s03=None), world.config)
    assert found.passed is False
    assert "without a subject (case_s03)" in found.detail


def test_rows_hold_image_fingerprints_only(world):
    """A case without its label must still be recognised."""
    reals = world.evidence.reals
    rows = lineage_rows("x", reals.cases, reals.subjects, reals.images, reals.masks)
    assert rows["fingerprint"].is_unique
    assert set(rows["fingerprint"]) <= set(world.evidence.lineage["fingerprint"])
