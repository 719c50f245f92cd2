"""Second step: look at every file once and set aside what cannot be used.

Every set-aside case is one row of the quarantine table, with all its reasons joined by "; ".
Status 'quarantined' means that the case takes no part. Status 'unlabelled' means that it takes
part as an unlabelled volume although nobody declared it unlabelled.

An image without a label is a legitimate member of a cohort, so what its absence means depends on
what was promised. imagesTs, a folder unlabelled/ or an empty label cell declare an unlabelled
case, which needs no row here. A plain folder promises nothing: the image is used as an unlabelled
case and named here, in case the label was forgotten. A training folder (imagesTr), an entry of
dataset.json or a manifest cell that names a label promises one: its absence is a fault, most
likely a file lost on the way, and the case is quarantined so that the loss is seen.
`cohort.image_without_label` chooses either for all.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dreamorph.errors import CohortError
from dreamorph.volumes import checks, io
from dreamorph.volumes.checks import Problem
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.native import label_content
from dreamorph.volumes.records import (
    QUARANTINE_COLUMNS,
    CohortFacts,
    LayoutFacts,
    Modality,
    Scan,
    Validation,
    frame,
    rows,
)

logger = logging.getLogger(__name__)

GOOD_COLUMNS = (
    "case", "subject", "image", "label", "class", "split", "content", "label_content", "shape",
    "spacing_mm",
)  # fmt: skip
QUARANTINED, UNLABELLED = "quarantined", "unlabelled"
_HU_OF_AIR = -200
_MAX_LABELS = 255
_MANY_ALONE = 30
"""So many labels may one case alone have, or as many as all others have."""


@dataclass
class _Case:
    """What is known of one case so far."""

    row: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    note: Problem | None = None
    image: io.Header | None = None
    label: io.Header | None = None
    content: str = ""
    label_content: str | None = None
    values: set[int] = field(default_factory=set)
    low: float = 0.0
    binary: bool = False
    few: bool = False


def validate(scan: Scan, config: CohortConfig) -> Validation:
    """Check headers, then the voxels of the cases that passed. A broken file stops nothing."""
    cases = [_Case(row) for row in rows(scan.cases)]
    declared = config.label_names or scan.facts.label_names
    for case in cases:
        _look_at_files(case, config)
    _look_for_foreigners(cases, config)
    if any(case.image is not None and case.image.channels > 1 for case in cases):
        logger.warning("multichannel images: only channel %d is read", config.channel)
    try:
        for case in cases:
            if not case.problems:
                _look_at_voxels(case, set(declared), config)
    finally:
        io.release()
    _look_for_images_as_labels(cases, declared)
    _look_for_labels_as_images(cases)
    _look_for_scans_among_shapes(cases, scan.facts, config)
    _look_for_unscaled(cases, scan.facts, config)
    _look_for_duplicates(cases)
    _warn_of_lone_values(cases, declared)
    good = [case for case in cases if not case.problems]
    table = frame((_good_row(case) for case in good), GOOD_COLUMNS)
    facts = _facts(good, scan.facts, config)
    return Validation(table, _quarantine(cases), facts)


def quarantine_summary(quarantine: pd.DataFrame) -> str:
    """One line such as '2 label without image, 1 image without label'; '' for an empty table."""
    reasons = Counter(
        reason
        for row in rows(quarantine)
        if row["status"] == QUARANTINED
        for reason in str(row["reason"]).split("; ")
    )
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def _look_at_files(case: _Case, config: CohortConfig) -> None:
    row = case.row
    if row["fault"] is not None:
        case.problems.append(Problem(checks.AMBIGUOUS_LABEL, row["fault"]))
        return
    if not row["listed"]:
        case.problems.append(
            Problem(checks.UNLISTED, "the files lie in the folder, but dataset.json omits them")
        )
    if row["image"] is None:
        case.problems.append(
            Problem(checks.LABEL_WITHOUT_IMAGE, "there is a label file, but no image")
            if row["label"] is not None
            else Problem(checks.FILES_MISSING, "a file that the data set lists does not exist")
        )
    elif row["label"] is None:
        _judge_missing_label(case, config)
    for what in ("image", "label"):
        if row[what] is not None:
            header = _header(case, what)
            if what == "image":
                case.image = header
            else:
                case.label = header
    if case.image is not None and case.label is not None:
        case.problems += checks.pair_problems(case.image, case.label)


def _judge_missing_label(case: _Case, config: CohortConfig) -> None:
    expected = case.row["label_expected"]
    if expected == "no" or (expected == "open" and case.row["class"] is not None):
        return
    policy = config.image_without_label
    if policy == "quarantine" or (policy == "auto" and expected == "yes"):
        detail = "a label was promised; to use such images, set cohort.image_without_label"
        case.problems.append(Problem(checks.IMAGE_WITHOUT_LABEL, detail))
    else:
        case.note = Problem(checks.IMAGE_WITHOUT_LABEL, "used as an unlabelled volume")


def _header(case: _Case, what: str) -> io.Header | None:
    try:
        header = io.read_header(case.row[what])
        problems = checks.affine_problems(header, what)
        case.problems += problems
        return None if problems else header.ras()
    except io.UnreadableVolumeError as error:
        case.problems.append(Problem(checks.UNREADABLE, f"{what}: {error}"))
        return None


def _look_for_foreigners(cases: list[_Case], config: CohortConfig) -> None:
    """The median is taken over images and over labels that lack one: one header per case."""
    known = [(case, case.image or case.label) for case in cases]
    found = [(case, header) for case, header in known if header is not None]
    problems = checks.foreign_problems(
        [header for _, header in found], config.foreign_extent_factor, config.foreign_spacing_factor
    )
    turned = checks.orientation_problems([header for _, header in found])
    for (case, _), foreign, unturned in zip(found, problems, turned, strict=True):
        case.problems += foreign + unturned
    if found and not any(header.oriented for _, header in found):
        logger.warning(
            "no volume says which way its axes point (neither sform nor qform is set): all are"
            " taken to be stored alike, and left and right may be swapped"
        )


def _look_at_voxels(case: _Case, declared: set[int], config: CohortConfig) -> None:
    try:
        image = io.read_voxels(case.row["image"], config.channel)
        case.problems += checks.image_problems(image, config.mr_percentiles)
        assert case.image is not None
        stored = io.read_header(case.row["image"]).affine
        case.content = io.voxel_digest(io.to_ras(image, stored))
        case.low, case.binary = float(image.min()), checks.is_binary(image)
        case.few = checks.few_values(image)
    except io.UnreadableVolumeError as error:
        case.problems.append(Problem(checks.UNREADABLE, f"image: {error}"))
    if case.row["label"] is None:
        return
    try:
        label = io.read_voxels(case.row["label"])
        case.label_content = label_content(label, io.read_header(case.row["label"]).affine)
        problems = checks.label_problems(label, declared)
        case.problems += problems
        if not problems:
            case.values = {int(value) for value in np.unique(np.rint(label))} - {0}
    except io.UnreadableVolumeError as error:
        case.problems.append(Problem(checks.UNREADABLE, f"label: {error}"))


def _look_for_images_as_labels(cases: list[_Case], declared: Collection[int]) -> None:
    """Set aside the odd label map with very many values.

    Where most maps are such none is: that is told of the cohort as a whole (see `_facts`).
    """
    maps = [case for case in cases if not case.problems and case.values]
    if declared or len(maps) < checks.MIN_HEADERS_FOR_MEDIAN:
        return
    seen_in = Counter(value for case in maps for value in case.values)
    found = []
    for case in maps:
        alone = sum(seen_in[value] == 1 for value in case.values)
        others = len(seen_in) - alone
        if len(case.values) > _MAX_LABELS or alone > max(_MANY_ALONE, others):
            found.append(case)
    if 2 * len(found) > len(maps):
        return
    for case in found:
        detail = (
            f"the label map holds {len(case.values)} different values, unlike the others: is it an"
            " image? if they are labels, name them all in cohort.label_names"
        )
        case.problems.append(Problem(checks.UNEXPECTED_VALUES, detail))


def _look_for_labels_as_images(cases: list[_Case]) -> None:
    """Set aside an image of few values where most are not such: a mask or a stray label map.

    Most of the labelled ones, if there are any: masks may lie beside all the others.
    """
    images = [case for case in cases if not case.problems]
    labelled = [c for c in images if c.row["label"] is not None or c.row["class"] is not None]
    usual = labelled or images
    if 2 * sum(case.few for case in usual) >= len(usual):
        return
    few = [case for case in images if case.few]
    for case in few:
        detail = "the image holds a handful of values, unlike the others: is it a mask?"
        case.problems.append(Problem(checks.MASK_AS_IMAGE, detail))


def _warn_of_lone_values(cases: list[_Case], declared: Collection[int]) -> None:
    """0/1 and 0/255 side by side are one structure, most likely, written in two ways."""
    maps = [case.values for case in cases if not case.problems and case.values]
    seen = Counter(value for values in maps for value in values)
    if declared or len(seen) < 2 or any(len(values) > 1 for values in maps):
        return
    listed = ", ".join(f"{value} in {count}" for value, count in sorted(seen.items()))
    logger.warning(
        "every label map holds one value, but not all the same (%s): each counts as a label of its"
        " own; if they mean one structure, write it with one value in all maps",
        listed,
    )


def _look_for_scans_among_shapes(
    cases: list[_Case], layout: LayoutFacts, config: CohortConfig
) -> None:
    """Where most images are binary the cohort is one of shapes, and the odd scan is set aside."""
    images = [case for case in cases if not case.problems]
    if config.modality != "auto" or layout.modality is not None:
        return
    if 2 * sum(case.binary for case in images) <= len(images):
        return
    for case in images:
        if not case.binary:
            detail = "the image holds grey values, where most others are binary shapes"
            case.problems.append(Problem(checks.SCAN_AMONG_SHAPES, detail))


def _look_for_unscaled(cases: list[_Case], layout: LayoutFacts, config: CohortConfig) -> None:
    """Set aside the odd CT volume that has no value below 0: stored without its rescaling."""
    usable = [case for case in cases if not case.problems]
    if not usable or _modality(usable, layout, config) != "CT":
        return
    if np.median([case.low for case in usable]) > _HU_OF_AIR:
        return
    for case in usable:
        if case.low >= 0:
            detail = (
                "no voxel is below 0, unlike in the other CT volumes: rescale intercept missing?"
            )
            case.problems.append(Problem(checks.NOT_HOUNSFIELD, detail))


def _look_for_duplicates(cases: list[_Case]) -> None:
    """Of equal images one stays, a labelled one where there is one.

    Two subjects who share an image are one: else it would be learned from and tested on.
    """
    kept: dict[str, _Case] = {}
    same: dict[str, str] = {}
    usable = [case for case in cases if not case.problems and case.content]
    for case in sorted(usable, key=lambda c: c.row["label"] is None and c.row["class"] is None):
        if case.content in kept:
            other = kept[case.content].row
            detail = f"the same voxels as {other['case']}, which stays"
            case.problems.append(Problem(checks.DUPLICATE, detail))
            one, two = (_joined(row["subject"], same) for row in (other, case.row))
            if one != two:
                same[two] = one
        else:
            kept[case.content] = case
    if same:
        logger.warning(
            "%d subjects share a volume with another one: each counts as that one from here on",
            len(same),
        )
        for case in cases:
            case.row["subject"] = _joined(case.row["subject"], same)


def _joined(subject: str, same: Mapping[str, str]) -> str:
    """The subject that stands for this one."""
    while subject in same:
        subject = same[subject]
    return subject


def _good_row(case: _Case) -> dict[str, Any]:
    assert case.image is not None
    return {
        **case.row,
        "content": case.content,
        "label_content": case.label_content,
        "shape": "x".join(str(n) for n in case.image.shape),
        "spacing_mm": "x".join(f"{s:.3f}" for s in case.image.spacing_mm),
    }


def _quarantine(cases: list[_Case]) -> pd.DataFrame:
    table = []
    for case in cases:
        found = case.problems or ([case.note] if case.note else [])
        if not found:
            continue
        status = QUARANTINED if case.problems else UNLABELLED
        table.append(
            {
                "case": case.row["case"],
                "status": status,
                "reason": "; ".join(dict.fromkeys(problem.reason for problem in found)),
                "detail": "; ".join(problem.detail for problem in found),
            }
        )
        logger.log(
            logging.WARNING if case.problems else logging.INFO,
            "%s is %s: %s (%s)",
            table[-1]["case"], status, table[-1]["reason"], table[-1]["detail"],
        )  # fmt: skip
    return frame(table, QUARANTINE_COLUMNS)


def _facts(good: list[_Case], layout: LayoutFacts, config: CohortConfig) -> CohortFacts:
    declared = config.label_names or layout.label_names
    observed = sorted(set().union(*(case.values for case in good)))
    values = [value for value in sorted(set(declared) - {0}) if value in observed] or observed
    unseen = sorted(set(declared) - {0, *observed})
    if unseen and observed:
        logger.warning(
            "%d of %d declared labels are in no usable label file and take no part: %s",
            len(unseen), len(set(declared) - {0}), ", ".join(str(value) for value in unseen[:10]),
        )  # fmt: skip
    if not any(case.row["label"] is not None for case in good):
        values = []
    if len(values) > _MAX_LABELS:
        raise CohortError(
            f"the label maps hold {len(values)} different values, expected at most {_MAX_LABELS}:"
            " are these images instead of labels?"
        )
    names = [declared.get(value, f"label_{value}") for value in values]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CohortError(
            f"two labels are called {twice[0]!r}: expected a name for each, in dataset.json or in"
            " cohort.label_names"
        )
    modality = _modality(good, layout, config)
    if config.modality == "auto" and layout.modality is None:
        logger.info("modality taken from the voxels: %s; cohort.modality overrides it", modality)
    if modality == "CT" and good and all(case.low >= 0 for case in good):
        logger.warning("no CT volume has a negative voxel: are these Hounsfield units?")
    return CohortFacts(
        layout=layout.layout,
        modality=modality,
        label_values={value: index for index, value in enumerate(values, start=1)},
        label_names=dict(enumerate(names, start=1)),
        class_names=sorted({case.row["class"] for case in good} - {None}),
    )


def _modality(good: list[_Case], layout: LayoutFacts, config: CohortConfig) -> Modality:
    if config.modality != "auto":
        return config.modality
    if layout.modality is not None:
        return layout.modality
    if good and all(case.binary for case in good):
        return "shape"
    if good and np.median([case.low for case in good]) <= _HU_OF_AIR:
        return "CT"
    return "MR"
