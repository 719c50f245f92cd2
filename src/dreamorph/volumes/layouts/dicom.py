"""Folders of DICOM series, with a SEG or an RTSTRUCT for each that is labelled.

Every CT or MR series, of one modality, is a case; scouts and other objects are passed over. The
structures of SEGs and RTSTRUCTs are told apart by their names, since their numbers differ from
file to file: those that `cohort.structures` asks for, or those that more than half of the files
have (a name of one patient alone may be the patient's). The subject is the PatientID, which is
never published.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.dicom.address import Address
from dreamorph.volumes.dicom.files import dicom_files
from dreamorph.volumes.dicom.index import Drawing, Series, index, owners
from dreamorph.volumes.layouts.common import LayoutReader, natural_key
from dreamorph.volumes.records import CaseFiles, Layout, LayoutFacts, Modality

logger = logging.getLogger(__name__)

_MAX_LABELS = 255


def read(path: Path, config: CohortConfig) -> Layout:
    """List the series below a folder."""
    series, drawings = index(path)
    owned = owners(series, drawings)
    modality = _modality(path, series, set(owned.values()), config)
    series = [one for one in series if one.modality == modality]
    series = _described(path, series, config.series_description)
    labelled = _one_each(path, owned, {one.uid for one in series})
    names, painted = _label_values(path, list(labelled.values()), config)
    cases = []
    for name, one in zip(_case_names(path, series), series, strict=True):
        image = Address(str(one.folder), one.uid)
        drawing = labelled.get(one.uid)
        paint = painted[drawing] if drawing is not None else ()
        label = (
            Address(
                image.folder, image.series, str(drawing.file), paint, config.structures is not None
            )
            if drawing is not None and paint
            else None
        )
        cases.append(
            CaseFiles(
                case=name,
                subject=one.subject if config.subject.regex is None else None,
                image=str(image),
                label=str(label) if label is not None else None,
            )
        )
    _warn_of_one_patient(series, config)
    strays = [drawing for drawing in drawings if drawing not in owned]
    cases += [_stray(path, drawing) for drawing in strays]
    facts = LayoutFacts(
        layout="dicom", modality=modality, label_names=dict(enumerate(names, start=1))
    )
    return Layout(sorted(cases, key=lambda case: natural_key(case.case)), facts)


def recognises(path: Path) -> bool:
    """Any folder with a DICOM file below it, by its mark."""
    return path.is_dir() and next(dicom_files(path, recursive=True), None) is not None


def _modality(
    path: Path, series: Sequence[Series], labelled: set[str], config: CohortConfig
) -> Modality:
    """The modality asked for, or the only one among the labelled series, or among all of them."""
    if config.modality in ("CT", "MR"):
        return config.modality
    if config.modality != "auto":
        raise CohortError(f"cohort.modality: DICOM is read as CT or MR, got {config.modality!r}")
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
        subjects = len({one.subject for one in series})
        if subjects < len(series) and kinds > 1:
            logger.warning(
                "%d series of %d patients bear %d descriptions and all of them take part;"
                " cohort.series_description chooses, for example, one kind of MR sequence",
                len(series), subjects, kinds,
            )  # fmt: skip
        return series
    chosen = [one for one in series if re.search(wanted, one.description, re.IGNORECASE)]
    if series and not chosen:
        raise CohortError(
            f"cohort.series_description {wanted!r} fits none of {len(series)} series of {path}"
        )
    return chosen


def _one_each(path: Path, owned: dict[Drawing, str], kept: set[str]) -> dict[str, Drawing]:
    """The SEG or RTSTRUCT of each labelled series."""
    found: dict[str, list[Drawing]] = defaultdict(list)
    for drawing, uid in owned.items():
        if uid in kept:
            found[uid].append(drawing)
    several = sum(len(own) > 1 for own in found.values())
    if several:
        raise CohortError(
            f"cohort.path: {path}: {several} series have more than one SEG or RTSTRUCT; keep one"
            " of each"
        )
    return {uid: own[0] for uid, own in found.items()}


def _label_values(
    path: Path, drawings: list[Drawing], config: CohortConfig
) -> tuple[list[str], dict[Drawing, tuple[tuple[int, int], ...]]]:
    """Names of labels 1, 2, ..., and which structures of each file are painted with which value."""
    if not drawings:
        return [], {}
    asked = config.structures or _common(path, drawings)
    painted = {}
    for drawing in drawings:
        painted[drawing] = tuple(
            (number, value)
            for value, pattern in enumerate(asked.values(), start=1)
            for number, name in drawing.structures
            if re.fullmatch(pattern, _plain(name), re.IGNORECASE)
        )
    drawn_in = Counter(v for paint in painted.values() for v in {value for _, value in paint})
    for value, name in enumerate(asked, start=1):
        if drawn_in[value] == 0:
            raise CohortError(
                f"cohort.structures: {name} fits the name of no structure in {len(drawings)} SEG"
                " and RTSTRUCT files"
            )
        if drawn_in[value] < len(drawings):
            logger.warning(
                "%s is drawn in %d of %d SEG and RTSTRUCT files; in the others it counts as absent",
                name, drawn_in[value], len(drawings),
            )  # fmt: skip
    return list(asked), painted


def _common(path: Path, drawings: list[Drawing]) -> dict[str, str]:
    """Name and pattern of the structures that more than half of the files have, in any order."""
    spelt: dict[str, str] = {}
    files: Counter[str] = Counter()
    for drawing in drawings:
        names = {_plain(name) for _, name in drawing.structures} - {""}
        files.update({name.casefold() for name in names})
        for name in sorted(names):
            spelt.setdefault(name.casefold(), name)
    common = sorted(name for name, count in files.items() if 2 * count > len(drawings))
    if not common or len(common) > _MAX_LABELS:
        raise CohortError(
            f"cohort.path: {path}: {len(common)} names of structures occur in more than half of"
            f" {len(drawings)} SEG and RTSTRUCT files, expected 1 to {_MAX_LABELS}; give"
            " cohort.structures, label name -> pattern of the names in the files"
        )
    if len(files) > len(common):
        logger.info(
            "%d names of structures that fewer files have are left out; cohort.structures asks for"
            " others",
            len(files) - len(common),
        )
    return {spelt[name]: re.escape(spelt[name]) for name in common}


def _plain(name: str) -> str:
    """A name with single spaces."""
    return " ".join(name.split())


def _case_names(path: Path, series: Sequence[Series]) -> list[str]:
    """Folder of each series, and a number where it holds several."""
    own: dict[Path, list[str]] = defaultdict(list)
    for one in series:
        own[one.folder].append(one.uid)
    names = []
    for one in series:
        uids = sorted(own[one.folder], key=natural_key)
        folder = one.folder.relative_to(path).as_posix()
        number = f"series-{uids.index(one.uid) + 1}"
        alone = len(uids) == 1 and folder != "."
        names.append(folder if alone else number if folder == "." else f"{folder}/{number}")
    return names


def _stray(path: Path, drawing: Drawing) -> CaseFiles:
    """A SEG or RTSTRUCT whose series is not there."""
    name = drawing.file.relative_to(path).as_posix()
    label = Address(str(drawing.file.parent), drawing.series, str(drawing.file))
    return CaseFiles(name, None, None, str(label), label_expected="yes")


def _warn_of_one_patient(series: Sequence[Series], config: CohortConfig) -> None:
    if config.subject.regex is None and len(series) > 1 and len({s.subject for s in series}) == 1:
        logger.warning(
            "all %d series bear one PatientID and count as one subject; if they are of several"
            " patients, read them from the folders' names by cohort.subject.regex",
            len(series),
        )


READER = LayoutReader(
    "dicom", "folders of DICOM series, with SEG or RTSTRUCT files that name them", recognises, read
)
