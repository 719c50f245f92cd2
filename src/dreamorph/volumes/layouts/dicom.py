"""Folders of DICOM series, with a SEG or an RTSTRUCT for each that is labelled.

Every CT or MR series, of one modality, is a case; scouts and other objects are passed over. The
structures of SEGs and RTSTRUCTs are told apart by their names, since their numbers differ from
file to file: those that `cohort.structures` asks for, or those that more than half of the patients
have (a name of one patient alone may be the patient's). The subject is the PatientID, which is
never published.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.dicom.address import Address
from dreamorph.volumes.dicom.files import dicom_files
from dreamorph.volumes.dicom.index import Drawing, Owners, Series, index
from dreamorph.volumes.layouts.common import LayoutReader, natural_key
from dreamorph.volumes.records import CaseFiles, Layout, LayoutFacts, Modality

logger = logging.getLogger(__name__)

_MAX_LABELS = 255
_FEWEST_PATIENTS = 2
_SHOWN = 10
#: Names that only number a structure, and so mean another one in every file.
_NUMBER_ALONE = re.compile(r"(segment|label|roi|region|structure|contour|object)?[ _-]*\d+")
#: What the structures of a file are painted with: number of the structure, value of the label.
Paint = tuple[tuple[int, int], ...]


def read(path: Path, config: CohortConfig) -> Layout:
    """List the series below a folder."""
    everything, drawings = index(path)
    drawn_on, strays = _assign(everything, drawings)
    modality = _modality(path, everything, drawn_on, config)
    series = [one for one in everything if one.modality == modality]
    series = _described(path, series, config.series_description)
    labelled = [(drawing, one) for one in series for drawing in drawn_on.get(one.uid, [])]
    names, painted = _label_values(path, labelled, config)
    cases = []
    for name, one in zip(_case_names(path, series), series, strict=True):
        found = drawn_on.get(one.uid, [])
        image = Address(tuple(str(folder) for folder in one.folders), one.uid)
        paint = painted[found[0]] if len(found) == 1 else ()
        overlap = config.structures is not None
        label = (
            Address(image.folders, one.uid, str(found[0].file), paint, overlap) if paint else None
        )
        cases.append(
            CaseFiles(
                case=name,
                subject=one.patient if config.subject.regex is None else None,
                image=str(image),
                label=str(label) if label is not None else None,
                fault=_SEVERAL if len(found) > 1 else None,
            )
        )
    cases += [_stray(path, drawing, fault) for drawing, fault in strays]
    _warn_of_patients(series, config)
    facts = LayoutFacts(
        layout="dicom",
        modality=modality,
        label_names=dict(enumerate(names, start=1)),
        subjects_are_private=config.subject.regex is None,
    )
    return Layout(sorted(cases, key=lambda case: natural_key(case.case)), facts)


_SEVERAL = "several SEG or RTSTRUCT files are drawn on the series, expected one"
_UNCLEAR = "the SEG or RTSTRUCT may belong to several series that are there"


def recognises(path: Path) -> bool:
    """Any folder with a DICOM file below it, by its mark."""
    return path.is_dir() and next(dicom_files(path, recursive=True), None) is not None


def _assign(
    series: Sequence[Series], drawings: Iterable[Drawing]
) -> tuple[dict[str, list[Drawing]], list[tuple[Drawing, str | None]]]:
    """What is drawn on each series, by its UID; and those of none, with their fault if any."""
    drawn_on: dict[str, list[Drawing]] = defaultdict(list)
    strays: list[tuple[Drawing, str | None]] = []
    owners = Owners(series)
    for drawing in drawings:
        found = owners(drawing)
        if len(found) == 1:
            drawn_on[found.pop()].append(drawing)
        else:
            strays.append((drawing, _UNCLEAR if found else None))
    return dict(drawn_on), strays


def _modality(
    path: Path, series: Sequence[Series], drawn_on: Iterable[str], config: CohortConfig
) -> Modality:
    """The modality asked for, or the only one among the labelled series, or among all of them."""
    if config.modality in ("CT", "MR"):
        return config.modality
    if config.modality != "auto":
        raise CohortError(f"cohort.modality: DICOM is read as CT or MR, got {config.modality!r}")
    labelled = set(drawn_on)
    found = {one.modality for one in series if one.uid in labelled}
    found = found or {one.modality for one in series}
    if found == {"CT"}:
        return "CT"
    if found == {"MR"}:
        return "MR"
    if not found:
        raise CohortError(f"cohort.path: {path} holds DICOM files, but no CT or MR series")
    raise CohortError(
        f"cohort.path: {path} holds CT and MR series; say which are meant: cohort.modality=CT or MR"
    )


def _described(path: Path, series: list[Series], wanted: str | None) -> list[Series]:
    """The series whose SeriesDescription fits."""
    if wanted is None:
        kinds = len({one.description for one in series})
        patients = len({one.patient for one in series})
        if patients < len(series) and kinds > 1:
            logger.warning(
                "%d series of %d patients bear %d descriptions and all of them take part;"
                " cohort.series_description chooses, for example, one kind of MR sequence",
                len(series), patients, kinds,
            )  # fmt: skip
        return series
    chosen = [one for one in series if re.search(wanted, one.description, re.IGNORECASE)]
    if series and not chosen:
        raise CohortError(
            f"cohort.series_description {wanted!r} fits none of {len(series)} series of {path}"
        )
    return chosen


def _label_values(
    path: Path, labelled: Sequence[tuple[Drawing, Series]], config: CohortConfig
) -> tuple[list[str], dict[Drawing, Paint]]:
    """Names of labels 1, 2, ..., and which structures of each file are painted with which value."""
    if not labelled:
        return [], {}
    asked = config.structures or _common(path, labelled)
    painted = {
        drawing: tuple(
            (number, value)
            for value, pattern in enumerate(asked.values(), start=1)
            for number, name in drawing.structures
            if re.fullmatch(pattern, _plain(name), re.IGNORECASE)
            or re.fullmatch(pattern, _plain(name).casefold(), re.IGNORECASE)
        )
        for drawing, _ in labelled
    }
    drawn_in = Counter(v for paint in painted.values() for v in {value for _, value in paint})
    for value, name in enumerate(asked, start=1):
        if drawn_in[value] == 0:
            raise CohortError(
                f"cohort.structures: {name} fits the name of no structure that is drawn in"
                f" {len(painted)} SEG and RTSTRUCT files"
            )
        if drawn_in[value] < sum(map(bool, painted.values())):
            logger.warning(
                "%s is drawn in %d of %d SEG and RTSTRUCT files that hold labels; in the others it"
                " counts as absent",
                name, drawn_in[value], sum(map(bool, painted.values())),
            )  # fmt: skip
    none = sum(not paint for paint in painted.values())
    if none:
        logger.warning(
            "%d of %d SEG and RTSTRUCT files hold none of the labels: their series count as"
            " unlabelled",
            none, len(painted),
        )  # fmt: skip
    return list(asked), painted


def _common(path: Path, labelled: Sequence[tuple[Drawing, Series]]) -> dict[str, str]:
    """Name and pattern of the structures that more than half of the patients have, two at least."""
    spelt: dict[str, Counter[str]] = defaultdict(Counter)
    owners: dict[str, set[str]] = defaultdict(set)
    for drawing, one in labelled:
        for _, name in drawing.structures:
            spelt[_plain(name).casefold()][_plain(name)] += 1
            owners[_plain(name).casefold()].add(one.patient)
    patients = len({one.patient for _, one in labelled})
    enough = max(patients // 2 + 1, _FEWEST_PATIENTS)
    named = [name for name in sorted(owners) if name and not _NUMBER_ALONE.fullmatch(name)]
    common = [name for name in named if len(owners[name]) >= enough]
    if not 1 <= len(common) <= _MAX_LABELS:
        several = [name for name in owners if len(owners[name]) >= _FEWEST_PATIENTS]
        several.sort(key=lambda name: (-len(owners[name]), name))
        shown = ", ".join(spelt[name].most_common(1)[0][0] for name in several[:_SHOWN])
        raise CohortError(
            f"cohort.path: {path}: {len(common)} names of structures, other than mere numbers,"
            f" occur with {enough} or more of {patients} labelled patients, expected 1 to"
            f" {_MAX_LABELS}; give cohort.structures, label name -> pattern of names in the files"
            f" (those of several patients: {shown or 'none'})"
        )
    if len(owners) > len(common):
        logger.info(
            "%d names of structures that fewer patients have, or that only number them, are left"
            " out; cohort.structures asks for others",
            len(owners) - len(common),
        )
    return {spelt[name].most_common(1)[0][0]: re.escape(name) for name in common}


def _plain(name: str) -> str:
    """A name with single spaces."""
    return " ".join(name.split())


def _case_names(path: Path, series: Sequence[Series]) -> list[str]:
    """Folder of each series, and a number where it holds several or is the cohort's own."""
    folders = [next(iter(one.folders)) for one in series]
    own: dict[Path, list[str]] = defaultdict(list)
    for folder, one in zip(folders, series, strict=True):
        own[folder].append(one.uid)
    numbers = {
        uid: place
        for uids in own.values()
        for place, uid in enumerate(sorted(uids, key=natural_key), start=1)
    }
    names = []
    for folder, one in zip(folders, series, strict=True):
        name = folder.relative_to(path).as_posix()
        alone = len(own[folder]) == 1 and folder != path
        names.append(name if alone else f"{name}/series-{numbers[one.uid]}")
    return names


def _stray(path: Path, drawing: Drawing, fault: str | None) -> CaseFiles:
    """A SEG or RTSTRUCT without a series of its own."""
    name = drawing.file.relative_to(path).as_posix()
    label = str(Address((str(drawing.file.parent),), "", str(drawing.file)))
    return CaseFiles(name, f"of {name}", None, label, label_expected="yes", fault=fault)


def _warn_of_patients(series: Sequence[Series], config: CohortConfig) -> None:
    if config.subject.regex is not None:
        return
    unnamed = sum(not one.named for one in series)
    if unnamed:
        logger.warning(
            "%d series bear no PatientID: each of their studies counts as a subject of its own; if"
            " a patient has several, read patients from the folders' names by cohort.subject.regex,"
            " or test subjects leak into training",
            unnamed,
        )
    if len(series) > 1 and len({one.patient for one in series}) == 1:
        logger.warning(
            "all %d series bear one PatientID and count as one subject; if they are of several"
            " patients, read them from the folders' names by cohort.subject.regex",
            len(series),
        )


READER = LayoutReader(
    "dicom", "folders of DICOM series, with SEG or RTSTRUCT files that name them", recognises, read
)
