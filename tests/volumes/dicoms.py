"""Synthetic DICOM series, SEGs and RTSTRUCTs, written with pydicom and highdicom."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

#: Orientation -> directions of rows and columns in LPS; the slices follow their cross product.
ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "oblique": ((0.8, 0.6, 0), (-0.36, 0.48, 0.8)),
}
SPACING = (2.5, 0.75, 1.5)
"""Between slices, between rows, between columns (mm)."""


def series(
    folder: Path,
    voxels: np.ndarray,
    *,
    patient: str = "P1",
    name: str = "Doe^Jane",
    orientation: str = "axial",
    modality: str = "CT",
    slope: float = 1.0,
    intercept: float = -1024.0,
    description: str = "",
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL"),
    spacing: tuple[float, float, float] = SPACING,
    prefix: str = "IM",
) -> list[FileDataset]:
    """Write stored values (slices, rows, columns) uint16, a file a slice, in odd order."""
    folder.mkdir(parents=True, exist_ok=True)
    row, column = (np.array(axis, dtype=float) for axis in ORIENTATIONS[orientation])
    normal = np.cross(row, column)
    uid, frame, study = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for number, pixels in enumerate(voxels):
        one = _dataset(CTImageStorage if modality == "CT" else MRImageStorage)
        one.Modality = modality
        one.PatientID, one.PatientName = patient, name
        one.PatientBirthDate, one.PatientSex = "19700101", "O"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, uid, frame
        one.StudyID, one.AccessionNumber = "1", "1"
        one.StudyDate, one.StudyTime, one.ReferringPhysicianName = "20200101", "120000", ""
        one.SeriesNumber, one.InstanceNumber = 1, number + 1
        one.SeriesDescription, one.ImageType = description, list(image_type)
        one.PositionReferenceIndicator, one.PatientPosition = "", "HFS"
        one.Rows, one.Columns = pixels.shape
        one.PixelSpacing = [spacing[1], spacing[2]]
        one.SliceThickness = spacing[0]
        one.ImageOrientationPatient = [*row, *column]
        place = np.array([-31.25, 17.5, 103.75]) + number * spacing[0] * normal
        one.ImagePositionPatient = [float(f"{value:.10g}") for value in place]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        if modality == "CT":
            one.RescaleSlope, one.RescaleIntercept, one.RescaleType = slope, intercept, "HU"
        one.PixelData = pixels.astype("<u2").tobytes()
        one.save_as(folder / f"{prefix}{(number * 7) % 97:03d}", enforce_file_format=True)
        slices.append(one)
    return slices


def seg(
    file: Path, slices: list[FileDataset], masks: Mapping[str, np.ndarray], kind: str = "BINARY"
) -> Path:
    """Write a SEG with a segment for each name, of masks (slices, rows, columns)."""
    tissue = CodedConcept("85756007", "SCT", "Tissue")
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=tissue,
            segmented_property_type=tissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    content = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=np.stack(list(masks.values()), axis=-1).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues[kind],
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(file)
    return file


def rtstruct(
    file: Path,
    slices: list[FileDataset],
    regions: Mapping[str, Sequence[np.ndarray]],
    first_number: int = 1,
    names_series: bool = True,
) -> Path:
    """Write an RTSTRUCT with contours (N, 3), LPS mm, for each name."""
    one = _dataset(RTStructureSetStorage)
    one.Modality, one.StructureSetLabel = "RTSTRUCT", "regions"
    one.PatientID, one.PatientName = slices[0].PatientID, slices[0].PatientName
    one.StudyInstanceUID, one.SeriesInstanceUID = slices[0].StudyInstanceUID, generate_uid()
    frame, study, referenced = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    frame.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    if names_series:
        referenced.SeriesInstanceUID = slices[0].SeriesInstanceUID
        study.RTReferencedSeriesSequence = [referenced]
        frame.RTReferencedStudySequence = [study]
    one.ReferencedFrameOfReferenceSequence = [frame]
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=first_number):
        roi, drawn = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = slices[0].FrameOfReferenceUID
        one.StructureSetROISequence.append(roi)
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = []
        for points in contours:
            contour = pydicom.Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [float(f"{value:.10g}") for value in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        one.ROIContourSequence.append(drawn)
    file.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(file, enforce_file_format=True)
    return file


def affine_of(slices: list[FileDataset]) -> np.ndarray:
    """Voxel (slice, row, column) -> RAS mm, by DICOM's own formula (PS3.3 C.7.6.2.1.1)."""
    first, last = slices[0], slices[-1]
    step = (np.array(last.ImagePositionPatient) - first.ImagePositionPatient) / (len(slices) - 1)
    row, column = np.reshape(np.array(first.ImageOrientationPatient, dtype=float), (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = column * first.PixelSpacing[0]
    affine[:3, 2] = row * first.PixelSpacing[1]
    affine[:3, 3] = first.ImagePositionPatient
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _dataset(kind: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    return one
