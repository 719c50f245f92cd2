"""What a tree of DICOM files holds: image series, and the SEGs and RTSTRUCTs drawn on them.

Of what the files say about a patient, only the PatientID is read, to know whose a series is.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from tqdm import tqdm

from dreamorph.volumes.dicom.files import dicom_files

logger = logging.getLogger(__name__)

_READ = [
    "Modality", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "FrameOfReferenceUID",
    "ImageType", "SeriesDescription", "ReferencedSeriesSequence", "SegmentSequence",
    "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
]  # fmt: skip
_IMAGES = ("CT", "MR")
_SCOUT = "LOCALIZER"


@dataclass(frozen=True)
class Series:
    """An image series of a folder.

    Attributes:
        folder: that holds its files.
        uid: its SeriesInstanceUID.
        modality: CT or MR.
        subject: PatientID, or the study's UID where there is none. Private.
        frame: FrameOfReferenceUID, '' if unknown.
        description: SeriesDescription. Private.
    """

    folder: Path
    uid: str
    modality: str
    subject: str
    frame: str
    description: str


@dataclass(frozen=True)
class Drawing:
    """A SEG or an RTSTRUCT.

    Attributes:
        file: where it is.
        series: SeriesInstanceUID of the series that it names, '' if none.
        frame: FrameOfReferenceUID, '' if unknown.
        structures: number and name of every segment or region of interest.
    """

    file: Path
    series: str
    frame: str
    structures: tuple[tuple[int, str], ...]


def index(path: Path) -> tuple[list[Series], list[Drawing]]:
    """All below a folder. Files that cannot be read and objects of other kinds are passed over."""
    series: dict[tuple[Path, str], Series] = {}
    drawings: list[Drawing] = []
    passed_over = broken = 0
    for file in tqdm(list(dicom_files(path, recursive=True)), desc="DICOM files"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they repeat what a file says
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_READ)
                kind = _text(header, "Modality")
                if kind in _IMAGES and _SCOUT not in (header.get("ImageType") or ()):
                    one = _series(file, header)
                    series.setdefault((one.folder, one.uid), one)
                elif kind == "SEG":
                    drawings.append(_seg(file, header))
                elif kind == "RTSTRUCT":
                    drawings.append(_rtstruct(file, header))
                else:
                    passed_over += 1
        except Exception:  # pydicom raises errors of many kinds; one broken file stops nothing
            broken += 1
    if passed_over:
        logger.info("%d DICOM files are neither CT, MR, SEG nor RTSTRUCT, or scouts", passed_over)
    if broken:
        logger.warning("%d DICOM files cannot be read and are left out", broken)
    return list(series.values()), drawings


def owners(series: Sequence[Series], drawings: Sequence[Drawing]) -> dict[Drawing, str]:
    """Series UID that each drawing belongs to; those of which the series is not there are left out.

    That which it names, or where it names none the only one in its frame of reference.
    """
    uids = {one.uid for one in series}
    found = {}
    for drawing in drawings:
        in_frame = {one.uid for one in series if one.frame and one.frame == drawing.frame}
        if drawing.series in uids:
            found[drawing] = drawing.series
        elif not drawing.series and len(in_frame) == 1:
            found[drawing] = in_frame.pop()
    return found


def _series(file: Path, header: pydicom.Dataset) -> Series:
    return Series(
        folder=file.parent,
        uid=str(header.SeriesInstanceUID),
        modality=_text(header, "Modality"),
        subject=_text(header, "PatientID") or str(header.StudyInstanceUID),
        frame=_text(header, "FrameOfReferenceUID"),
        description=_text(header, "SeriesDescription"),
    )


def _seg(file: Path, header: pydicom.Dataset) -> Drawing:
    named = {str(one.SeriesInstanceUID) for one in _items(header, "ReferencedSeriesSequence")}
    structures = tuple(
        (int(one.SegmentNumber), _text(one, "SegmentLabel"))
        for one in _items(header, "SegmentSequence")
    )
    return _drawing(file, named, _text(header, "FrameOfReferenceUID"), structures)


def _rtstruct(file: Path, header: pydicom.Dataset) -> Drawing:
    frames = list(_items(header, "ReferencedFrameOfReferenceSequence"))
    named = {
        str(one.SeriesInstanceUID)
        for frame in frames
        for study in _items(frame, "RTReferencedStudySequence")
        for one in _items(study, "RTReferencedSeriesSequence")
    }
    structures = tuple(
        (int(one.ROINumber), _text(one, "ROIName"))
        for one in _items(header, "StructureSetROISequence")
    )
    frame = _text(frames[0], "FrameOfReferenceUID") if len(frames) == 1 else ""
    return _drawing(file, named, frame, structures)


def _drawing(
    file: Path, named: set[str], frame: str, structures: tuple[tuple[int, str], ...]
) -> Drawing:
    return Drawing(file, named.pop() if len(named) == 1 else "", frame, structures)


def _items(dataset: pydicom.Dataset, name: str) -> Iterator[pydicom.Dataset]:
    yield from dataset.get(name) or ()


def _text(dataset: pydicom.Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip()
