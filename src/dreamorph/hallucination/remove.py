"""Check `remove`: a net must not draw what is not there.

Each test image is shown three times: as it is, with the structure painted out, and with the same
painting where the structure is not (sham). What the net then draws in the painted region is false.
Where truly empty volumes exist, false positives must not exceed the 95th percentile found on them.
Cropped cohorts have none: the sham places then serve as the empty controls, with a floor of 10 % of
the structure's volume, because painting out leaves traces. Two guards keep the check honest: a net
that misses the structure when it is there proves nothing, and neither does one that the painting
itself upsets. Structures are painted out one at a time, and the worst decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import REMOVAL_COLUMNS, NetEvidence
from dreamorph.hallucination.inpainting import remove_structure, sham
from dreamorph.hallucination.registry import check
from dreamorph.hallucination.result import Finding

Predict = Callable[[torch.Tensor], torch.Tensor]
RULE_EMPTY = "mean <= 95th percentile on truly empty volumes (mL)"
RULE_SHAM = (
    "no truly empty volumes: mean <= 95th percentile in sham regions or, if larger, the floor"
)


@dataclass(frozen=True)
class TestImages:
    """Volumes to show a net: images, labels and masks `(N, 1, *shape)`, N names each.

    A volume without the structure serves as a truly empty control.

    Attributes:
        spacing_mm: voxel size.
        structure: the label to paint out; None: all labels together.
        name: what it is called in the table.
    """

    __test__ = False

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    cases: list[str]
    subjects: list[str]
    spacing_mm: tuple[float, ...]
    structure: int | None = None
    name: str = "all labels"


def measure_removal(
    predict: Predict, tests: TestImages, config: AuditConfig, arm: str = "dream"
) -> pd.DataFrame:
    """Show a net each image intact, with the structure painted out, and with a sham.

    A volume whose label does not hold the structure is shown as it is, as a truly empty control.

    Args:
        predict: images `(B, 1, *shape)` float32 to integer labels `(B, 1, *shape)`.
        tests: the volumes; one is shown at a time.
        arm: name of the net for the table.

    Returns:
        One row per case and condition (`intact`, `removed`, `sham`, `empty`), REMOVAL_COLUMNS.
        `dice`: against the true structure (intact), or against the intact prediction outside the
        sham region (sham).
    """
    rows = []
    for index in range(len(tests.cases)):
        # a generator per case, so that the order and number of cases do not matter
        generator = np.random.default_rng([config.seed, index])
        for condition, numbers in _measure_case(predict, tests, index, config, generator):
            who = (arm, tests.cases[index], tests.subjects[index], tests.name, condition)
            rows.append((*who, *numbers))
    return pd.DataFrame(rows, columns=list(REMOVAL_COLUMNS))


@check(
    "remove",
    stage="nets",
    severity="gate",
    quantity="false positives where the structure was painted out, mean per subject",
    unit="mL",
    source="Antun et al., PNAS 2020, test 2",
    needs_labels=True,
)
def remove(evidence: NetEvidence, config: AuditConfig) -> Finding:
    """False positives of each network against empty or sham controls, structure by structure."""
    table = evidence.removal
    known = set() if table is None else set(table["arm"])
    if table is None or (missing := [a for a in evidence.removed_arms if a not in known]):
        why = "not measured" if table is None else f"not measured for {', '.join(missing)}"
        return Finding(float("nan"), None, RULE_SHAM, 0, False, why)
    found = {
        f"{arm}, {name}": _one_structure(part, config)
        for (arm, name), part in table.groupby(["arm", "structure"], sort=False)
        if arm in evidence.removed_arms
    }
    worst = max(found.values(), key=_badness)
    detail = "; ".join(f"{name}: {one.detail}" for name, one in found.items())
    return replace(worst, detail=detail)


def _badness(finding: Finding) -> tuple[int, float]:
    """Failed before not assessable before passed, then by how far beyond the threshold."""
    order = {False: 2, None: 1, True: 0}
    ratio = finding.value / finding.threshold if finding.threshold else finding.value
    return order[finding.passed], ratio if np.isfinite(ratio) else np.inf


def _one_structure(table: pd.DataFrame, config: AuditConfig) -> Finding:
    by = {name: part for name, part in table.groupby("condition")}
    if "removed" not in by or "intact" not in by:
        return Finding(float("nan"), None, RULE_SHAM, 0, False, "no volume with the structure")
    removed, intact, empty, shams = by["removed"], by["intact"], by.get("empty"), by.get("sham")
    per_subject = removed.groupby("subject")["false_positive_ml"].mean()
    value, n = float(per_subject.mean(skipna=False)), len(per_subject)
    structure = float(intact["structure_ml"].mean())
    detail = (
        f"{value:.2f} mL in {removed['components'].mean():.1f} components a volume, "
        f"{100 * value / structure:.1f} % of the structure's {structure:.2f} mL"
    )
    truly_empty = empty is not None and empty["subject"].nunique() >= config.min_test_subjects
    controls = empty if truly_empty else shams
    if controls is None or not len(controls):
        why = f"neither empty volumes nor room for a sham; {detail}"
        return Finding(value, None, RULE_SHAM, n, None, why)
    threshold = float(np.percentile(controls["false_positive_ml"].to_numpy(float), 95))
    rule = RULE_EMPTY
    if not truly_empty:
        detail += f"; sham 95th percentile {threshold:.3f} mL"
        threshold = max(threshold, config.remove_floor_share * structure)
        rule = f"{RULE_SHAM} of {100 * config.remove_floor_share:.0f} % of the structure"
    if not (np.isfinite(value) and value <= threshold):
        return Finding(value, threshold, rule, n, False, detail)
    doubts = _doubts(intact, shams, config)
    return Finding(
        value, threshold, rule, n, None if doubts else True, "; ".join([detail, *doubts])
    )


def _doubts(intact: pd.DataFrame, shams: pd.DataFrame | None, config: AuditConfig) -> list[str]:
    """Why few false positives may still mean nothing."""
    doubts = []
    present = float(intact["dice"].median())
    if not present >= config.remove_min_dice:
        doubts.append(f"the net misses the structure where it is present (Dice {present:.2f})")
    if shams is not None and len(shams):
        steady = float(shams["dice"].median())
        if not steady >= config.remove_min_sham_dice:
            doubts.append(f"the painting itself upsets the net (Dice after sham {steady:.2f})")
    return doubts


def _measure_case(
    predict: Predict,
    tests: TestImages,
    index: int,
    config: AuditConfig,
    generator: np.random.Generator,
) -> list[tuple[str, tuple[float, ...]]]:
    image = tests.images[index, 0].cpu().numpy()
    mask = tests.masks[index, 0].cpu().numpy().astype(bool)
    truth = _structure(tests.labels[index, 0].cpu().numpy(), tests.structure)
    ml = prod(tests.spacing_mm) / 1000
    intact = _show(predict, image, tests.structure)
    if not truth.any():
        drawn = intact & mask
        return [("empty", (0.0, mask.sum() * ml, drawn.sum() * ml, _pieces(drawn), np.nan))]
    volume = truth.sum() * ml
    wrong = intact & mask & ~truth
    rows: list[tuple[str, tuple[float, ...]]]
    rows = [("intact", (volume, 0.0, wrong.sum() * ml, _pieces(wrong), _dice(intact, truth)))]
    painted, region = remove_structure(image, truth, mask, config.removal, generator)
    # with the structure gone, whatever is drawn is false, also beside the painted region;
    # but what was false already before the painting is not this check's matter
    drawn = _show(predict, painted, tests.structure) & mask & (region | ~intact)
    numbers = (volume, region.sum() * ml, drawn.sum() * ml, _pieces(drawn), np.nan)
    rows.append(("removed", numbers))
    shammed = sham(image, truth, mask, config.removal, generator)
    if shammed is not None:
        painted, region = shammed
        answer = _show(predict, painted, tests.structure)
        # the structure is still there: false is what appears in the sham region
        drawn = answer & region
        kept = _dice(answer & ~region, intact & ~region)
        rows.append(("sham", (volume, region.sum() * ml, drawn.sum() * ml, _pieces(drawn), kept)))
    return rows


def _show(predict: Predict, image: np.ndarray, structure: int | None) -> np.ndarray:
    batch = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    answer = predict(batch)
    if tuple(answer.shape) != tuple(batch.shape):
        raise ValueError(
            f"predict: expected labels of shape {tuple(batch.shape)}, got {tuple(answer.shape)}"
        )
    return _structure(answer[0, 0].cpu().numpy(), structure)


def _structure(labels: np.ndarray, structure: int | None) -> np.ndarray:
    return np.asarray(labels > 0 if structure is None else labels == structure)


def _pieces(drawn: np.ndarray) -> float:
    return float(ndimage.label(drawn, np.ones((3,) * drawn.ndim))[1])


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else float("nan")
