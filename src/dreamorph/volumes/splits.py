"""Third step: who trains, who stays unlabelled, who tests. By subject, never by case."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dreamorph.errors import CohortError
from dreamorph.volumes.config import SplitConfig
from dreamorph.volumes.records import frame, rows
from dreamorph.volumes.validation import GOOD_COLUMNS, quarantine_summary

logger = logging.getLogger(__name__)

TRAIN, UNLABELLED, TEST = SPLITS = ("train", "unlabelled", "test")
UNUSED = "unused"
#: Volumes that a prior can be learned from, labelled or not.
FEWEST_MEMBERS = 3
#: Subjects among them that are labelled.
FEWEST_TRAINED = 2
SPLIT_COLUMNS = (*GOOD_COLUMNS, "labelled")

Quota = dict[str, int]


def assign_splits(
    good: pd.DataFrame, config: SplitConfig, quarantine: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Give every case of the table a split: train, unlabelled, test, or unused.

    A case is labelled if it has a label map or, in a cohort without any label map, a class. Only
    labelled cases train and test; other cases of such subjects are unused. Label and class of the
    unlabelled part are removed from the table, so that nothing can use them. The draw is
    stratified by class and depends on the subjects' names and `config.seed` alone.

    Returns the table with columns SPLIT_COLUMNS (local: it holds paths). Raises CohortError if
    nothing is labelled, if only some of the labelled cases have a class, if the numbers do not fit,
    or if a subject would be in two splits.
    """
    cases = rows(good)
    by_map = any(case["label"] is not None for case in cases)
    for case in cases:
        case["labelled"] = case["label" if by_map else "class"] is not None
    _check_labels(cases, quarantine)
    if by_map:
        _check_classes_given(cases)
    pools = _own_pools(cases) if any(case["split"] is not None for case in cases) else None
    chosen = (
        _from_pools(pools, cases, config, quarantine) if pools else _draw(cases, config, quarantine)
    )
    _check_classes(cases, chosen, by_map)
    for case in cases:
        split = chosen.get(case["subject"], UNUSED)
        if split in (TRAIN, TEST) and not case["labelled"]:
            split = UNUSED
        case["split"] = split
        if split == UNLABELLED:
            case.update({"label": None, "label_content": None, "class": None, "labelled": False})
    table = frame(cases, SPLIT_COLUMNS)
    check_disjoint(table)
    counts = Counter(case["split"] for case in cases)
    logger.info("cases: %s", ", ".join(f"{counts[s]} {s}" for s in (*SPLITS, UNUSED) if counts[s]))
    return table


def check_disjoint(table: pd.DataFrame) -> None:
    """Raise CohortError if a subject, or an image of equal content, is in two splits."""
    for column, what in (("subject", "subjects"), ("content", "equal images")):
        if column not in table.columns:
            continue
        seen: dict[str, set[str]] = defaultdict(set)
        for row in rows(table):
            if row["split"] in SPLITS and row[column]:
                seen[row[column]].add(row["split"])
        leaks = sorted(key for key, splits in seen.items() if len(splits) > 1)
        if leaks:
            where = ", ".join(sorted(seen[leaks[0]]))
            raise CohortError(
                f"expected every subject in one split only, but {len(leaks)} {what} are in"
                f" several, for example {leaks[0]} in {where}"
            )


def check_members(table: pd.DataFrame) -> None:
    """Raise CohortError where too few volumes train or are unlabelled to learn a prior from.

    Dreams are held against how labels differ between subjects, so two at least have to train.
    """
    trained = table.loc[table["split"] == TRAIN, "subject"].nunique()
    if trained < FEWEST_TRAINED:
        raise CohortError(
            f"dreams are judged by how at least {FEWEST_TRAINED} labelled training subjects differ,"
            f" but there is {trained}: add labelled volumes, raise split.train_subjects or lower"
            " split.test_subjects"
        )
    counts = Counter(str(split) for split in table["split"])
    members = counts[TRAIN] + counts[UNLABELLED]
    if members < FEWEST_MEMBERS:
        tested = table.loc[table["split"] == TEST, "subject"].nunique()
        lower = ", or lower split.test_subjects" if tested > 1 else ""
        raise CohortError(
            f"how the anatomy varies is learned from at least {FEWEST_MEMBERS} volumes beside those"
            f" for testing, but there are {counts[TRAIN]} to train, {counts[UNLABELLED]} unlabelled"
            f" and {counts[TEST]} for testing: add unlabelled volumes{lower}"
        )


def _check_labels(cases: Sequence[Mapping[str, Any]], quarantine: pd.DataFrame | None) -> None:
    subjects = {case["subject"] for case in cases if case["labelled"]}
    if len(subjects) < 2:
        what = "no case has a label map or class" if not subjects else "only one labelled subject"
        raise CohortError(
            f"too few labelled subjects remain: expected at least 2 (one to train, one to test),"
            f" got {len(subjects)} ({what}){_set_aside(len(cases), quarantine)}"
        )


def _check_classes_given(cases: Sequence[Mapping[str, Any]]) -> None:
    """Dreams are drawn within a class: among cases with label maps, all have one or none has."""
    own = [case for case in cases if case["labelled"] and case["split"] != UNLABELLED]
    lacking = [case["case"] for case in own if case["class"] is None]
    if 0 < len(lacking) < len(own):
        raise CohortError(
            f"{len(lacking)} of {len(own)} cases with a label map have no class, for example"
            f" {lacking[0]}: fill the class of all of them, or of none"
        )


def _set_aside(remaining: int, quarantine: pd.DataFrame | None) -> str:
    summary = "" if quarantine is None else quarantine_summary(quarantine)
    if not summary:
        return f"; usable cases: {remaining}"
    return f"; usable cases: {remaining}, set aside: {summary} (see the quarantine table)"


def _own_pools(cases: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Subjects of each part of the cohort's own split."""
    missing = [case["case"] for case in cases if case["split"] is None]
    if missing:
        raise CohortError(f"{len(missing)} cases have no split, but others do; fill all or none")
    check_disjoint(frame(cases, SPLIT_COLUMNS))
    for part in (TRAIN, TEST):
        own = [case for case in cases if case["split"] == part]
        labelled = {case["subject"] for case in own if case["labelled"]}
        bare = sum(case["subject"] not in labelled for case in own)
        if bare:
            raise CohortError(
                f"{bare} cases of split '{part}' have no label, nor has any other of their"
                " subjects; expected them in 'unlabelled'"
            )
        left = sum(not case["labelled"] for case in own)
        if left:
            logger.warning(
                "%d cases of split '%s' have no label and are not used: their subjects have others",
                left, part,
            )  # fmt: skip
    return {
        part: sorted({case["subject"] for case in cases if case["split"] == part})
        for part in SPLITS
    }


def _from_pools(
    pools: Mapping[str, list[str]],
    cases: Sequence[Mapping[str, Any]],
    config: SplitConfig,
    quarantine: pd.DataFrame | None,
) -> dict[str, str]:
    wanted = {
        TRAIN: config.train_subjects,
        UNLABELLED: config.unlabelled_subjects,
        TEST: config.test_subjects,
    }
    classes = _subject_classes(cases)
    chosen = {}
    for part, pool in pools.items():
        number = len(pool) if (count := wanted[part]) is None else count
        if number > len(pool) or (part != UNLABELLED and not pool):
            asked = "at least 1 is needed"
            if count is not None:
                asked = f"split.{part}_subjects asks for {count}"
            raise CohortError(
                f"{asked}, but the cohort's own split has {len(pool)} usable subjects in '{part}'"
                f"{_set_aside(len(cases), quarantine)}"
            )
        order = _stratified_order(pool, classes, config.seed)
        chosen.update(dict.fromkeys(order[:number], part))
    return chosen


def _draw(
    cases: Sequence[Mapping[str, Any]], config: SplitConfig, quarantine: pd.DataFrame | None
) -> dict[str, str]:
    labelled = sorted({case["subject"] for case in cases if case["labelled"]})
    bare = sorted({case["subject"] for case in cases} - set(labelled))
    quota = _quota(len(labelled), len(bare), config, _set_aside(len(cases), quarantine))
    order = _stratified_order(labelled, _subject_classes(cases), config.seed)
    # truly unlabelled subjects come first; only what they lack is made up by withholding labels
    generator = np.random.default_rng([config.seed, 1])
    bare = [bare[i] for i in generator.permutation(len(bare))][: quota[UNLABELLED]]
    withheld = quota[UNLABELLED] - len(bare)
    chosen = dict.fromkeys(bare, UNLABELLED)
    chosen.update(dict.fromkeys(order[len(order) - quota[TEST] :], TEST))
    chosen.update(dict.fromkeys(order[: quota[TRAIN]], TRAIN))
    middle = order[quota[TRAIN] : quota[TRAIN] + withheld]
    chosen.update(dict.fromkeys(middle, UNLABELLED))
    return chosen


def _quota(labelled: int, bare: int, config: SplitConfig, context: str) -> Quota:
    """Numbers of subjects. What is left open adapts to what there is."""
    unlabelled = bare if config.unlabelled_subjects is None else config.unlabelled_subjects
    free = labelled - max(0, unlabelled - bare)
    train, test = config.train_subjects, config.test_subjects
    if train is None and test is not None:
        train = free - test
    if train is None:
        train = min(max(FEWEST_MEMBERS, round(config.train_fraction * free)), free - 1)
    if test is None:
        test = free - train
    if train < 1 or test < 1 or train + test > free:
        asked = ", ".join(
            f"{name} {'the rest' if number is None else number}"
            for name, number in (
                (TRAIN, config.train_subjects),
                (UNLABELLED, config.unlabelled_subjects),
                (TEST, config.test_subjects),
            )
        )
        raise CohortError(
            f"the split does not fit: asked for {asked}, but there are {labelled} labelled and"
            f" {bare} unlabelled subjects and train and test need at least one each; lower"
            f" split.train_subjects, unlabelled_subjects or test_subjects{context}"
        )
    return {TRAIN: train, UNLABELLED: unlabelled, TEST: test}


def _subject_classes(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The most frequent class of each subject's cases; '' where there is none."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        counts[case["subject"]][case["class"] or ""] += 1
    return {
        subject: min(count, key=lambda name: (-count[name], name))
        for subject, count in counts.items()
    }


def _stratified_order(subjects: Sequence[str], classes: Mapping[str, str], seed: int) -> list[str]:
    """Random order in which any stretch holds the classes in proportion, and each comes early."""
    groups: dict[str, list[str]] = defaultdict(list)
    for subject in sorted(subjects):
        groups[classes[subject]].append(subject)
    generator = np.random.default_rng([seed, 0])
    ranked: list[tuple[float, str, str]] = []
    for name in sorted(groups):
        members = [groups[name][i] for i in generator.permutation(len(groups[name]))]
        # one of each class in front, so that a small training part misses none
        ranked += [
            (-1.0 if rank == 0 and len(groups) > 1 else (rank + 0.5) / len(members), name, member)
            for rank, member in enumerate(members)
        ]
    return [member for _, _, member in sorted(ranked)]


def _check_classes(
    cases: Sequence[Mapping[str, Any]], chosen: Mapping[str, str], by_map: bool
) -> None:
    if by_map:
        return
    names = {case["class"] for case in cases if case["labelled"]}
    if len(names) < 2:
        raise CohortError(
            f"expected at least 2 classes to tell apart, got only {sorted(names)}; a cohort without"
            " label maps needs a class column with several classes"
        )
    train = {c["class"] for c in cases if c["labelled"] and chosen.get(c["subject"]) == TRAIN}
    if names - train:
        raise CohortError(
            f"the training part lacks the classes {sorted(names - train)}; raise"
            " split.train_subjects"
        )
