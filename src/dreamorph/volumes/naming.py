"""Names under which cases and subjects may be published.

A file name can be a patient's name. It is kept only where it is plainly a study code; otherwise
the case is named by its content. The way back is the local key table of `scan`.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from dreamorph.errors import CohortError
from dreamorph.volumes.io import UnreadableVolumeError, content_digest
from dreamorph.volumes.records import CaseFiles

logger = logging.getLogger(__name__)

STUDY_CODE = re.compile(r"^([A-Za-z]+(?:[_-][A-Za-z]+)*[_-]?)\d{1,4}(?:_ses-?\d{1,2})?$")
#: Words that say what a file is, never whose.
GENERIC = frozenset(
    {
        "case", "subject", "subj", "sub", "patient", "pat", "participant", "id", "image", "img",
        "scan", "volume", "vol", "series", "study", "session", "ses", "sim", "simulated", "train",
        "training", "test", "val", "mr", "mri", "ct", "left", "right",
    }
)  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SHORT_NUMBER = re.compile(r"^\d{1,4}$")
#: Longer names are cut: they become parts of file names.
_LONGEST = 60
_LOCAL_COLUMNS = ("image", "label", "name")


def are_study_codes(names: Sequence[str], data_set: str = "") -> bool:
    """Whether all names are one harmless prefix and at most four digits (hippocampus_025).

    Every word of the prefix must be one of `GENERIC` or come from `data_set`, the data set's own
    name: any other may be a person's (Mueller_1, Mueller_2). A single name never counts.
    """
    matches = [STUDY_CODE.match(name) for name in names]
    prefixes = {match.group(1) for match in matches if match}
    if len(set(names)) < 2 or not all(matches) or len(prefixes) != 1:
        return False
    words = re.findall(r"[a-z]+", prefixes.pop().lower())
    return all(word in GENERIC or _occurs(word, data_set) for word in words)


def _occurs(word: str, data_set: str) -> bool:
    """Whether a word is one or several whole words of the name: hepaticvessel in HepaticVessel."""
    parts = [part.lower() for part in _WORD.findall(data_set)]
    ends = range(1, len(parts) + 1)
    return any(word == "".join(parts[start:end]) for end in ends for start in range(end))


def published_names(
    cases: Sequence[CaseFiles],
    subjects: Sequence[str],
    policy: str,
    trusted: bool = False,
    private_subjects: bool = False,
    data_set: str = "",
) -> tuple[list[str], list[str]]:
    """Names of cases and subjects that may leave the machine, in the order given.

    `policy`: 'keep', 'pseudonym', or 'auto' (keep study codes only). `trusted` says that the names
    were made by the layout reader itself, from an index; `private_subjects` that subjects are
    never kept; `data_set` is the data set's own name,
    which codes may repeat. A pseudonym is `case-` and eight hex
    digits of SHA-256 of the image file's content: the same scan keeps its name on every machine
    and under every file name. Raises CohortError if two cases share a name that is kept.
    """
    originals = [case.case for case in cases]
    repeated = [name for name, count in Counter(originals).items() if count > 1]
    if repeated:
        raise CohortError(
            f"expected one case per name, but {len(repeated)} names of {len(originals)} cases occur"
            " more than once; rename the files or list them in a CSV manifest with a case column"
        )
    keep = policy == "keep" or (
        policy == "auto" and (trusted or are_study_codes(originals, data_set))
    )
    if (
        keep
        and not private_subjects
        and (policy == "keep" or trusted or _codes_or_numbers(subjects, originals, data_set))
    ):
        return _kept(originals, "case"), _kept(subjects, "subject")
    digests = [_digest(case, index) for index, case in enumerate(cases)]
    by_content = _distinct([f"case-{digest}" for digest in digests])
    names = _kept(originals, "case") if keep else by_content
    if not keep:
        logger.info(
            "case names are not plainly study codes: cases are named by their content;"
            " cohort.case_names=keep keeps the names"
        )
    first: dict[str, str] = {}
    for subject, digest in zip(subjects, digests, strict=True):
        first[subject] = min(first.get(subject, digest), digest)
    return names, [f"subject-{first[subject]}" for subject in subjects]


def published(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the columns that hold file paths or original names."""
    return table.drop(columns=[column for column in _LOCAL_COLUMNS if column in table.columns])


def _codes_or_numbers(subjects: Sequence[str], cases: Sequence[str], data_set: str) -> bool:
    distinct = set(subjects)
    if distinct <= set(cases) or all(_SHORT_NUMBER.match(subject) for subject in distinct):
        return True
    return are_study_codes(sorted(distinct), data_set)


def _kept(names: Sequence[str], kind: str) -> list[str]:
    """Names as they may stand in files and tables; equal ones stay equal, others differ."""
    safe = {name: _safe(name, kind) for name in dict.fromkeys(names)}
    bearers = Counter(safe.values())
    result = {
        name: f"{text}-{_mark(name)}" if bearers[text] > 1 else text for name, text in safe.items()
    }
    return [result[name] for name in names]


def _safe(name: str, kind: str) -> str:
    # never a bare number: a table read back from CSV would turn 007 into 7
    text = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    if not re.search(r"[A-Za-z0-9]", text):
        return f"{kind}-{_mark(name)}"  # in other letters than these
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}-{_mark(name)}"
    return f"{kind}-{text}" if text.isdecimal() else text


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _distinct(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def _digest(case: CaseFiles, index: int) -> str:
    for address in (case.image, case.label):
        if address is not None:
            try:
                return content_digest(address)[:8]
            except UnreadableVolumeError:
                continue
    return f"missing-{index + 1}"
