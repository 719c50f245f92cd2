"""First step: list the files of a cohort, give each case its subject and its published name."""

import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig, SubjectRule
from dreamorph.volumes.files import files_in
from dreamorph.volumes.layouts import read_layout
from dreamorph.volumes.layouts.common import BIDS
from dreamorph.volumes.naming import published_names
from dreamorph.volumes.records import CASE_COLUMNS, CaseFiles, Scan, frame

logger = logging.getLogger(__name__)


def scan(config: CohortConfig) -> Scan:
    """List the cohort's files. Reads no voxel, but all bytes where names must be replaced.

    Raises CohortError if the path is missing, empty, of no known layout, or if the subject rule
    does not fit the names.
    """
    layout = read_layout(config)
    _check_numbering(layout.cases, config.subject)
    subjects = [_subject(case, config.subject) for case in layout.cases]
    _check_rule(layout.cases, subjects, config.subject)
    known = [str(subject) for subject in subjects]
    own = [case.subject is None and not BIDS.match(case.case) for case in layout.cases]
    if config.subject.regex is not None:
        own = [False] * len(own)
    _check_spelling({one for one, alone in zip(known, own, strict=True) if not alone})
    facts = layout.facts
    names, subject_names = published_names(
        layout.cases,
        known,
        config.case_names,
        trusted=facts.names_are_codes,
        private_subjects=facts.subjects_are_private,
        data_set=facts.data_set,
    )
    _tell_of_lists(config, facts.layout)
    alone = sum(own)
    if alone:
        logger.warning(
            "each of %d cases counts as a subject of its own; if a subject has several, set"
            " cohort.subject.regex or give a manifest with the column subject, or test subjects"
            " leak into training",
            alone,
        )
    rows = [
        {
            "case": name,
            "subject": subject,
            "image": case.image,
            "label": case.label,
            "class": _class_name(case.cls, config),
            "split": case.split,
            "label_expected": case.label_expected,
            "listed": case.listed,
            "fault": case.fault,
            "name": case.case,
        }
        for case, name, subject in zip(layout.cases, names, subject_names, strict=True)
    ]
    logger.info("layout '%s': %d cases of %d subjects", facts.layout, len(rows), len(set(known)))
    return Scan(
        cases=frame(rows, CASE_COLUMNS),
        facts=facts,
        keys=frame(rows, ("case", "name", "image", "label")),
    )


def _subject(case: CaseFiles, rule: SubjectRule) -> str | None:
    if case.subject is not None:
        return case.subject
    if rule.regex is None:
        bids = BIDS.match(case.case)
        return bids.group(1) if bids else case.case
    match = re.search(rule.regex, case.case)
    group = match.group(1) if match else None
    if not group or rule.cases_per_subject == 1:
        return group or None
    return str(math.ceil(int(group) / rule.cases_per_subject)) if group.isdecimal() else None


def _check_rule(cases: list[CaseFiles], subjects: list[str | None], rule: SubjectRule) -> None:
    unmatched = sum(subject is None for subject in subjects)
    if unmatched:
        kind = "a number" if rule.cases_per_subject > 1 else "a subject"
        raise CohortError(
            f"cohort.subject.regex {rule.regex!r} finds {kind} in {len(cases) - unmatched} of"
            f" {len(cases)} case names; it must fit all of them, or give a manifest"
        )


def _tell_of_lists(config: CohortConfig, layout: str) -> None:
    """A CSV beside the volumes may be meant as the manifest; its name may name a patient."""
    if layout == "manifest" or config.path is None or not config.path.expanduser().is_dir():
        return
    lists = sum(file.suffix.lower() == ".csv" for file in files_in(config.path.expanduser()))
    if lists:
        logger.warning(
            "the cohort's folder holds %d CSV files that are not read: to use one as a manifest,"
            " give it as cohort.manifest",
            lists,
        )


def _check_numbering(cases: list[CaseFiles], rule: SubjectRule) -> None:
    """From 0, pairs would be torn apart: one side of a head to learn from, the other to test on."""
    if rule.regex is None or rule.cases_per_subject == 1:
        return
    numbers = [m.group(1) for case in cases if (m := re.search(rule.regex, case.case))]
    if any(number and number.isdecimal() and int(number) == 0 for number in numbers):
        raise CohortError(
            f"cohort.subject.cases_per_subject={rule.cases_per_subject} counts from 1, but a case"
            " has the number 0; give a manifest with the column subject"
        )


def _check_spelling(subjects: Collection[str]) -> None:
    """Two spellings of one subject would be two: one to learn from, the other to test on.

    The message names no subject, since that may be a patient.
    """
    spellings = Counter(_plain(subject) for subject in set(subjects))
    twice = sum(count > 1 for count in spellings.values())
    if twice:
        raise CohortError(
            f"{twice} subjects are spelt in more than one way (capitals, spaces, or zeros of a"
            " number apart): write each alike for all of its cases, or give subjects names that"
            " differ"
        )


def _plain(subject: str) -> str:
    """The same for all spellings of a subject."""
    name = " ".join(unicodedata.normalize("NFKC", subject).casefold().split())
    number = re.fullmatch(r"0*(\d+)(?:\.0+)?", name)
    return number.group(1) if number else name


def _class_name(value: str | None, config: CohortConfig) -> str | None:
    if value is None:
        return None
    if config.class_names is not None:
        if value not in config.class_names:
            raise CohortError(
                f"cohort.class_names names {sorted(config.class_names)}, but the cohort has the"
                f" class {value!r}"
            )
        return config.class_names[value]
    # never a bare number: a table read back from CSV would turn it into one
    return f"class_{value}" if re.fullmatch(r"[\d.]+", value) else value
