"""A small but complete set of report inputs: 16^3 volumes of an ellipsoid in two halves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph import evaluation
from dreamorph.dreaming import Dreamer
from dreamorph.dreaming.dreams import recipes_to_table
from dreamorph.evaluation import Scored, compare_arms, evaluate_classification
from dreamorph.evaluation.evaluate import SEGMENTATION_COLUMNS
from dreamorph.hallucination.config import EXPECTED, GATES
from dreamorph.hallucination.result import CheckResult, to_table
from dreamorph.prior import DeformationPrior
from dreamorph.reporting import ReportInputs, parts
from dreamorph.spatial import SpatialTransform
from dreamorph.volumes.cohort import Cohort

SHAPE, SPACING = (16, 16, 16), (1.0, 1.0, 2.0)
ARMS = ("none", "classic", "elastic", "dream", "atlas")
MakeInputs = Callable[..., ReportInputs]


@pytest.fixture(scope="session")
def complete() -> ReportInputs:
    """Inputs of a segmentation study with everything there is."""
    return make_complete()


@pytest.fixture(scope="session")
def classification(complete: ReportInputs) -> ReportInputs:
    """Inputs of a study that tells two classes of binary shapes apart."""
    return make_classification(complete)


@pytest.fixture(scope="session")
def bare(complete: ReportInputs) -> ReportInputs:
    """Inputs of a run of which only the cohort is known."""
    return replace(complete, **NOTHING)


@pytest.fixture(scope="session")
def light(complete: ReportInputs) -> ReportInputs:
    """Inputs without the parts that take longest to draw."""
    assert complete.dreams is not None
    dreams = complete.dreams.select([0, 1])
    return replace(complete, pair_examples=[], predictions=None, dreams=dreams)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose figures are made, but not painted: painting takes most of the time."""
    monkeypatch.setattr(parts, "webp_uri", lambda figure: "data:image/webp,")
    monkeypatch.setattr(parts, "svg_uri", lambda figure: "data:image/svg+xml,")
    monkeypatch.setattr(evaluation.classification, "RESAMPLES", 50)


NOTHING: dict[str, Any] = {
    "quarantine": pd.DataFrame(),
    "pairs": pd.DataFrame(),
    "pair_examples": [],
    "prior": None,
    "dreams": None,
    "dream_table": pd.DataFrame(),
    "cases": pd.DataFrame(),
    "comparisons": pd.DataFrame(),
    "history": pd.DataFrame(),
    "checks": pd.DataFrame(),
    "verdict": "not_assessable",
    "parameters": {},
    "predictions": None,
}


def make_complete() -> ReportInputs:
    """A training, an unlabelled and a test split of six subjects each."""
    torch.manual_seed(0)
    cohort = _cohort()
    train, test = cohort.indices("train"), cohort.indices("test")
    members = train + cohort.indices("unlabelled")
    fields = 0.6 * torch.randn(len(members), 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    names = [cohort.cases[k] for k in members]
    prior = DeformationPrior().fit(
        fields, (16.0, 16.0, 32.0), members=names,
        subjects=[str(cohort.table["subject"][k]) for k in members],
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    dreams = Dreamer(prior).dream(
        cohort.images[train], cohort.labels[train], 8, generator, masks=cohort.masks[train]
    )
    cases = _cases(cohort, test)
    pairs = [("dream", arm) for arm in ARMS if arm != "dream"]
    return ReportInputs(
        study="ellipsoids",
        simulated=False,
        task="segmentation",
        created="2024-05-01 12:00 UTC",
        version="1.2.3",
        git_commit="0123456789abcdef",
        cohort=cohort,
        quarantine=pd.DataFrame(
            [("case_90", "quarantined", "empty label", "the label map has no labelled voxel")],
            columns=["case", "status", "reason", "detail"],
        ),
        pairs=_pairs(cohort),
        common=None,
        pair_examples=[(0, 1, _map(fields[0])), (2, 6, _map(fields[1]))],
        prior=prior,
        dreams=dreams,
        dream_table=recipes_to_table(dreams.recipes).assign(
            accepted=[True] * 6 + [False] * 2, reason=[""] * 6 + ["topology", ""]
        ),
        cases=cases,
        comparisons=compare_arms(cases, pairs, "dice"),
        history=_history(),
        checks=to_table(make_checks()),
        verdict="pass",
        parameters={"registration": {"window": 5}, "seed": 0},
        predictions={cohort.cases[k]: cohort.labels[k, 0].roll(1, 0) for k in test},
    )


def make_classification(complete: ReportInputs) -> ReportInputs:
    """Two classes, no label maps."""
    cohort = complete.cohort
    classes = ["large" if k % 2 else "small" for k in range(len(cohort))]
    table = cohort.table.assign(**{"class": classes})
    shapes = (cohort.labels > 0).float()
    cohort = replace(
        cohort, table=table, images=shapes, labels=torch.zeros_like(cohort.labels),
        label_names={}, class_names=["large", "small"], modality="shape",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    tables = []
    for arm in ("elastic", "dream", "shape_features"):
        test = cohort.indices("test")
        scored = [Scored(arm, cohort.cases[k], str(table["subject"][k])) for k in test]
        true = [cohort.class_names.index(classes[k]) for k in test]
        p = np.clip(np.array(true) * 0.4 + 0.3 + rng.normal(0, 0.2, len(test)), 0, 1)
        tables.append(
            evaluate_classification(scored, np.stack([1 - p, p], 1), true, cohort.class_names)
        )
    cases = pd.concat(tables, ignore_index=True)
    prior = complete.prior
    assert prior is not None
    known = dict(zip(cohort.cases, classes, strict=True))
    prior = DeformationPrior().fit(
        prior.fields, prior.extent_mm, members=prior.members, subjects=prior.subjects,
        classes=[known[m] for m in prior.members],
    )  # fmt: skip
    train = cohort.indices("train")
    generator = torch.Generator().manual_seed(2)
    dreams = Dreamer(prior).dream(cohort.images[train], cohort.labels[train], 4, generator)
    return replace(
        complete,
        task="classification",
        cohort=cohort,
        prior=prior,
        dreams=dreams,
        dream_table=recipes_to_table(dreams.recipes).assign(accepted=True, reason=""),
        cases=cases,
        comparisons=compare_arms(cases, [("dream", "elastic")], "balanced_accuracy"),
        predictions=None,
    )


def make_checks(**verdicts: str) -> list[CheckResult]:
    """Every expected check, with nothing amiss; verdicts by name override."""
    plain = CheckResult("", "dreams", "gate", "amiss", "%", 0.0, 0.0, "none", 6, "pass", "", "-")
    quantities = {
        "folds": {"quantity": "folded voxels", "source": "Liu et al., IJCV 2024"},
        "dream_ablation": {
            "quantity": "dream - elastic", "unit": "Dice", "value": 0.02, "threshold": None,
            "rule": "> 0",
        },
    }  # fmt: skip
    return [
        replace(
            plain, name=name, stage=stage, severity="gate" if name in GATES else "claim",
            verdict=verdicts.get(name, "pass"), **quantities.get(name, {}),
        )
        for stage, names in EXPECTED.items()
        for name in names
    ]  # fmt: skip


def _cohort() -> Cohort:
    count = 18
    grid = torch.stack(torch.meshgrid(*[torch.arange(n) - 7.5 for n in SHAPE], indexing="ij"))
    radii = torch.linspace(3.5, 5.5, count)
    distance = (grid * torch.tensor([1.0, 0.8, 1.2]).view(3, 1, 1, 1)).norm(dim=0)
    inside = distance[None] < radii.view(-1, 1, 1, 1)
    labels = (inside.to(torch.uint8) * (1 + (grid[1] > 0).to(torch.uint8)))[:, None]
    noise = torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(3))
    masks = torch.zeros(count, 1, *SHAPE, dtype=torch.bool)
    masks[:, :, 1:-1, 1:-1, :] = True
    images = (inside[:, None].float() * 2 + 0.2 * noise) * masks
    splits = ["train"] * 6 + ["unlabelled"] * 6 + ["test"] * 6
    labels[6:12] = 0
    table = pd.DataFrame(
        {
            "case": [f"case_{k:02d}" for k in range(count)],
            "subject": [f"subject_{k:02d}" for k in range(count)],
            "class": pd.Series([None] * count, dtype=object),
            "split": splits,
            "labelled": [split != "unlabelled" for split in splits],
            "fingerprint": ["0" * 16] * count,
        }
    )
    affines = np.stack([np.diag([*SPACING, 1.0])] * count)
    names = {1: "front", 2: "back"}
    return Cohort(table, images, labels, masks, affines, SPACING, names, [], "MR")


def _map(field: torch.Tensor) -> SpatialTransform:
    eye = torch.eye(4, dtype=torch.float64)[None]
    shifted = eye.clone()
    shifted[0, 0, 3] = 0.5
    return SpatialTransform(eye, field[None], shifted, SHAPE, SPACING)


def _pairs(cohort: Cohort) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for fixed, moving, kind in [(0, 1, "labelled"), (1, 2, "labelled"), (2, 6, "unlabelled")]:
        rows.append(
            {
                "fixed": fixed,
                "moving": moving,
                "kind": kind,
                "similarity_before": 0.4 + 0.1 * rng.random(),
                "similarity_affine": 0.5,
                "similarity_after": 0.7,
                "dice_before": 0.6 if kind == "labelled" else float("nan"),
                "dice_after": 0.9 if kind == "labelled" else float("nan"),
                "folded_voxels": 0,
                "log_jacobian_min": -0.8,
                "log_jacobian_max": 0.7,
                "inverse_error_mm": 0.05,
                "set_aside": "" if moving != 2 else "folds in 3 voxels",
                "fixed_case": cohort.cases[fixed],
                "moving_case": cohort.cases[moving],
            }
        )
    return pd.DataFrame(rows)


def _cases(cohort: Cohort, test: list[int]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for place, arm in enumerate(ARMS):
        for row in test:
            for label, name in cohort.label_names.items():
                dice = 0.7 + 0.03 * min(place, 3) + 0.01 * rng.random()
                rows.append(
                    [arm, 0, cohort.cases[row], cohort.table["subject"][row], label, name,
                     dice, 2 - dice, dice + 0.05, 1.1, 1.0]
                )  # fmt: skip
    return pd.DataFrame(rows, columns=SEGMENTATION_COLUMNS)


def _history() -> pd.DataFrame:
    rows = [
        (arm, 0, step, "loss", 1 / step) for arm in ("elastic", "dream") for step in range(1, 20)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "metric", "value"])
