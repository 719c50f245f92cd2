"""What a tree of DICOM files holds: image series, and the SEGs and RTSTRUCTs drawn on them.

Of what the files say about a patient, only the PatientID is read, to know whose a series is.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from tqdm import tqdm

from dreamorph.volumes.dicom.files import dicom_files, is_dicom, quietly
from dreamorph.volumes.dicom.series import IMAGE, is_image
from dreamorph.volumes.dicom.structures import CLOSED, CLOSED_XOR
from dreamorph.volumes.files import files_in

logger = logging.getLogger(__name__)

_READ = [
    *IMAGE, "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID",
    "FrameOfReferenceUID", "SeriesDescription",
]  # fmt: skip
_DRAWN = ("SEG", "RTSTRUCT")


@dataclass
class Series:
    """An image series.

    Attributes:
        uid: its SeriesInstanceUID.
        modality: CT or MR.
        patient: PatientID, or the study's UID where there is none. Private.
        frame: FrameOfReferenceUID, '' if unknown.
        description: SeriesDescription. Private.
        named: whether it bears a PatientID.
        folders: that hold its files.
        instances: SOPInstanceUIDs of its files.
    """

    uid: str
    modality: str
    patient: str
    frame: str
    description: str
    named: bool
    folders: dict[Path, None] = field(default_factory=dict)
    instances: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Drawing:
    """A SEG or an RTSTRUCT.

    Attributes:
        file: where it is.
        uid: its SOPInstanceUID.
        images: SOPInstanceUIDs of the images that it was drawn on, as far as it says.
        series: SeriesInstanceUIDs of the series that it names.
        frames: FrameOfReferenceUIDs that it names.
        structures: number and name of every segment or region of interest that is drawn.
    """

    file: Path
    uid: str
    images: frozenset[str]
    series: frozenset[str]
    frames: frozenset[str]
    structures: tuple[tuple[int, str], ...]


class Owners:
    """Which series a drawing may belong to, by the surest of what it says."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._uids = {one.uid for one in series}
        self._of_image = {image: one.uid for one in series for image in one.instances}
        self._in_frame: dict[str, set[str]] = defaultdict(set)
        for one in series:
            self._in_frame[one.frame].add(one.uid)

    def __call__(self, drawing: Drawing) -> set[str]:
        """UIDs: of the images it was drawn on, else those it names, else all in its frame."""
        of_images = {self._of_image[image] for image in drawing.images if image in self._of_image}
        if of_images:
            return of_images
        if drawing.series:
            return set(drawing.series & self._uids)
        return set().union(*(self._in_frame[frame] for frame in drawing.frames))


def index(path: Path) -> tuple[list[Series], list[Drawing]]:
    """All below a folder. Files that cannot be read and objects of other kinds are passed over."""
    series: dict[str, Series] = {}
    drawings: dict[str, Drawing] = {}
    passed_over = broken = 0
    with quietly():
        for file in tqdm(list(dicom_files(path, recursive=True)), desc="DICOM files"):
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*_READ])
                if is_image(header):
                    one = series.setdefault(str(header.SeriesInstanceUID), _series(header))
                    one.folders[file.parent] = None
                    one.instances.add(str(header.SOPInstanceUID))
                elif _text(header, "Modality") in _DRAWN:
                    drawing = _drawing(file, pydicom.dcmread(file, stop_before_pixels=True))
                    drawings.setdefault(drawing.uid, drawing)  # copies of a file count once
                else:
                    passed_over += 1
            except Exception:  # pydicom raises errors of many kinds; one broken file stops nothing
                broken += 1
    unmarked = sum(
        file.suffix.lower() == ".dcm" and not is_dicom(file)
        for file in files_in(path, recursive=True)
    )
    if passed_over:
        logger.info("%d DICOM files are scouts, or neither CT, MR, SEG nor RTSTRUCT", passed_over)
    if broken:
        logger.warning("%d DICOM files cannot be read and are left out", broken)
    if unmarked:
        logger.warning(
            "%d files called .dcm do not bear DICOM's mark and are left out: write them anew with"
            " their preamble",
            unmarked,
        )
    return list(series.values()), list(drawings.values())


def _series(header: pydicom.Dataset) -> Series:
    patient = _text(header, "PatientID").casefold()
    return Series(
        uid=str(header.SeriesInstanceUID),
        modality=_text(header, "Modality"),
        patient=patient or str(header.StudyInstanceUID),
        frame=_text(header, "FrameOfReferenceUID"),
        description=_text(header, "SeriesDescription"),
        named=bool(patient),
    )


def _drawing(file: Path, dataset: pydicom.Dataset) -> Drawing:
    seg = _text(dataset, "Modality") == "SEG"
    frames = [dataset, *_items(dataset, "ReferencedFrameOfReferenceSequence")]
    return Drawing(
        file=file,
        uid=str(dataset.SOPInstanceUID),
        images=frozenset(_images_of_seg(dataset) if seg else _images_of_rtstruct(dataset)),
        series=frozenset(
            str(one.SeriesInstanceUID)
            for holder in (dataset, *_studies(dataset))
            for name in ("ReferencedSeriesSequence", "RTReferencedSeriesSequence")
            for one in _items(holder, name)
        ),
        frames=frozenset(_text(one, "FrameOfReferenceUID") for one in frames) - {""},
        structures=tuple(_segments(dataset) if seg else _regions(dataset)),
    )


def _segments(dataset: pydicom.Dataset) -> Iterator[tuple[int, str]]:
    """Segments that have frames. Of label maps all, but for number 0, which is the background."""
    with_frames = {
        int(one.ReferencedSegmentNumber)
        for frame in _items(dataset, "PerFrameFunctionalGroupsSequence")
        for one in _items(frame, "SegmentIdentificationSequence")
    }
    label_map = _text(dataset, "SegmentationType") == "LABELMAP"
    for one in _items(dataset, "SegmentSequence"):
        number = int(one.SegmentNumber)
        if number and (label_map or not with_frames or number in with_frames):
            yield number, _text(one, "SegmentLabel")


def _regions(dataset: pydicom.Dataset) -> Iterator[tuple[int, str]]:
    """Regions that have a closed contour: templates list many that nobody drew."""
    drawn = {
        int(region.ReferencedROINumber)
        for region in _items(dataset, "ROIContourSequence")
        for one in _items(region, "ContourSequence")
        if _text(one, "ContourGeometricType") in (CLOSED, CLOSED_XOR)
    }
    for one in _items(dataset, "StructureSetROISequence"):
        if int(one.ROINumber) in drawn:
            yield int(one.ROINumber), _text(one, "ROIName")


def _images_of_seg(dataset: pydicom.Dataset) -> Iterator[str]:
    for one in _items(dataset, "ReferencedSeriesSequence"):
        for image in _items(one, "ReferencedInstanceSequence"):
            yield str(image.ReferencedSOPInstanceUID)
    for frame in _items(dataset, "PerFrameFunctionalGroupsSequence"):
        for derivation in _items(frame, "DerivationImageSequence"):
            for image in _items(derivation, "SourceImageSequence"):
                yield str(image.ReferencedSOPInstanceUID)


def _images_of_rtstruct(dataset: pydicom.Dataset) -> Iterator[str]:
    for region in _items(dataset, "ROIContourSequence"):
        for contour in _items(region, "ContourSequence"):
            for image in _items(contour, "ContourImageSequence"):
                yield str(image.ReferencedSOPInstanceUID)


def _studies(dataset: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        yield from _items(frame, "RTReferencedStudySequence")


def _items(dataset: pydicom.Dataset, name: str) -> Iterator[pydicom.Dataset]:
    yield from dataset.get(name) or ()


def _text(dataset: pydicom.Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip()
