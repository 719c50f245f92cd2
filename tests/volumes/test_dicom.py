"""DICOM series, SEGs and RTSTRUCTs, against volumes and shapes known by construction."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, generate_uid

from dreamorph.errors import CohortError
from dreamorph.volumes import io
from dreamorph.volumes.config import CohortConfig, SplitConfig
from dreamorph.volumes.dicom import Address
from dreamorph.volumes.dicom.series import geometry_of
from dreamorph.volumes.dicom.structures import fill
from dreamorph.volumes.ingest import load_cohort
from dreamorph.volumes.layouts import read_layout
from dreamorph.volumes.scan import scan
from dreamorph.volumes.validation import validate
from tests.volumes import dicoms

SHAPE = (9, 14, 12)


@pytest.fixture(autouse=True)
def forget():
    yield
    io.release()


def stored(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 3000, shape).astype(np.uint16)


def address(folder, slices):
    return str(Address(str(folder), slices[0].SeriesInstanceUID))


def boxes(shape=SHAPE):
    """Two boxes that do not touch, away from the first and last slices."""
    front, back = np.zeros(shape, bool), np.zeros(shape, bool)
    front[2:5, 3:8, 2:6] = True
    back[4:7, 3:8, 7:10] = True
    return front, back


def cohort(root, count=4, **kwargs):
    """So many labelled patients; the numbers of the segments differ from file to file."""
    front, back = boxes()
    for i in range(count):
        slices = dicoms.series(root / f"p{i}", stored(i), patient=f"ID{i}", **kwargs)
        named = {"Front": front, "Back": back}
        if i % 2:
            named = dict(reversed(named.items()))
        dicoms.seg(root / f"p{i}" / "seg", slices, named)
    return root


def listed(path, **kwargs):
    return read_layout(CohortConfig(path=path, **kwargs))


@pytest.mark.parametrize("orientation", dicoms.ORIENTATIONS)
def test_geometry_and_hounsfield_units(tmp_path, orientation):
    values = stored()
    slices = dicoms.series(tmp_path, values, orientation=orientation, slope=2.0)
    header = io.read_header(address(tmp_path, slices))
    voxels = io.read_voxels(address(tmp_path, slices))
    truth = dicoms.affine_of(slices)
    assert header.shape == voxels.shape
    # highdicom may turn the slices round; what lies where in the world does not change
    np.testing.assert_allclose(
        header.ras().affine @ [0, 0, 0, 1], _ras_affine(truth, SHAPE) @ [0, 0, 0, 1], atol=1e-6
    )
    np.testing.assert_allclose(header.ras().affine, _ras_affine(truth, SHAPE), atol=1e-6)
    np.testing.assert_array_equal(
        io.to_ras(voxels, header.affine), io.to_ras(values * 2.0 - 1024.0, truth)
    )


def _ras_affine(affine, shape):
    return affine @ nib.orientations.inv_ornt_aff(nib.io_orientation(affine), shape)


def test_one_file_with_all_slices(tmp_path):
    """An enhanced MR image reads as the series that it was made of."""
    slices = dicoms.series(tmp_path / "single", stored(), modality="MR")
    enhanced = LegacyConvertedEnhancedMRImage(slices, generate_uid(), 1, generate_uid(), 1)
    (tmp_path / "one").mkdir()
    enhanced.save_as(tmp_path / "one/IM1")
    single = address(tmp_path / "single", slices)
    one = str(Address(str(tmp_path / "one"), enhanced.SeriesInstanceUID))
    np.testing.assert_array_equal(_in_ras(one), _in_ras(single))
    np.testing.assert_allclose(
        io.read_header(one).ras().affine, io.read_header(single).ras().affine, atol=1e-6
    )


def _in_ras(at):
    return io.to_ras(io.read_voxels(at), io.read_header(at).affine)


def test_what_is_no_regular_volume_is_set_aside(tmp_path):
    cohort(tmp_path)
    (tmp_path / "p0/IM028").unlink()  # the fifth slice
    for file in (tmp_path / "p1").glob("IM*"):  # a second acquisition, every slice twice
        again = pydicom.dcmread(file)
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        again.save_as(file.with_name(f"{file.name}b"))
    (tmp_path / "p2/IM007").write_bytes((tmp_path / "p2/IM007").read_bytes()[:900])
    found = validate(scan(CohortConfig(path=tmp_path, case_names="keep")), CohortConfig())
    assert found.good["case"].to_list() == ["p3"]
    details = found.quarantine.set_index("case")["detail"]
    assert "do not form one regular volume" in details["p0"]
    assert "do not form one regular volume" in details["p1"]
    assert "p2" in details


def test_compressed_pixels(tmp_path):
    slices = dicoms.series(tmp_path, stored())
    at = address(tmp_path, slices)
    plain = io.read_voxels(at)
    for file in tmp_path.glob("IM*"):
        one = pydicom.dcmread(file)
        one.compress(JPEGLSLossless, encoding_plugin="pyjpegls")
        one.save_as(file)
    np.testing.assert_array_equal(io.read_voxels(at), plain)
    for file in tmp_path.glob("IM*"):
        one = pydicom.dcmread(file)
        one.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        one.save_as(file)
    with pytest.raises(io.UnreadableVolumeError, match=r"JPEG Lossless.*python-gdcm"):
        io.read_voxels(at)


@pytest.mark.parametrize("orientation", dicoms.ORIENTATIONS)
def test_segments_lie_where_they_were_drawn(tmp_path, orientation):
    slices = dicoms.series(tmp_path, stored(), orientation=orientation)
    front, back = boxes()
    file = dicoms.seg(tmp_path / "seg", slices, {"Front": front, "Back": back})
    at = Address(str(tmp_path), slices[0].SeriesInstanceUID, str(file), ((1, 2), (2, 1)))
    truth = io.to_ras(2 * front + back, dicoms.affine_of(slices))
    np.testing.assert_array_equal(_in_ras(str(at)), truth)


def test_a_segmentation_on_another_grid_is_refused(tmp_path):
    slices = dicoms.series(tmp_path / "a", stored())
    other = dicoms.series(tmp_path / "b", stored(), spacing=(2.5, 1.0, 1.0))
    file = dicoms.seg(tmp_path / "seg", other, {"Front": boxes()[0]})
    at = Address(str(tmp_path / "a"), slices[0].SeriesInstanceUID, str(file), ((1, 1),))
    with pytest.raises(io.UnreadableVolumeError, match="another grid"):
        io.read_voxels(str(at))


def circle(centre, radius, count=400):
    """Points (N, 3) in slice, row, column indices."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    flat = centre[1:] + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return np.column_stack([np.full(count, float(centre[0])), flat])


@pytest.mark.parametrize("orientation", dicoms.ORIENTATIONS)
def test_contours_are_filled(tmp_path, orientation):
    """A disc with a hole: all voxels whose centres lie in it, and no others."""
    shape = (5, 40, 44)
    slices = dicoms.series(
        tmp_path, stored(shape=shape), orientation=orientation, spacing=(2.0, 0.5, 0.5)
    )
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ dicoms.affine_of(slices)  # to LPS
    outlines = [circle((2, 19.3, 20.6), 12.4), circle((2, 21.3, 18.6), 4.7)]
    points = [nib.affines.apply_affine(place, outline) for outline in outlines]
    file = dicoms.rtstruct(tmp_path / "rt", slices, {"Ring": points}, first_number=7)
    at = Address(str(tmp_path), slices[0].SeriesInstanceUID, str(file), ((7, 1),))
    rows, columns = np.indices(shape[1:])
    ring = np.hypot(rows - 19.3, columns - 20.6) < 12.4
    ring &= ~(np.hypot(rows - 21.3, columns - 18.6) < 4.7)
    truth = np.zeros(shape)
    truth[2] = ring
    drawn = _in_ras(str(at))
    truth = io.to_ras(truth, dicoms.affine_of(slices))
    assert np.abs(drawn - truth).sum() <= 2  # a polygon of 400 points is not quite a circle
    assert drawn.sum() == pytest.approx(np.pi * (12.4**2 - 4.7**2), rel=0.02)


def test_contours_off_the_slices_are_refused(tmp_path):
    slices = dicoms.series(tmp_path, stored())
    geometry = geometry_of(Address(str(tmp_path), slices[0].SeriesInstanceUID))
    inside = geometry.map_indices_to_reference(circle((3, 6, 6), 3))
    assert fill([inside], geometry).sum() > 0
    between = inside + 0.4 * (geometry.affine[:3, 0])
    with pytest.raises(io.UnreadableVolumeError, match="does not lie in a slice"):
        fill([between], geometry)
    beyond = inside + 20 * geometry.affine[:3, 0]
    with pytest.raises(io.UnreadableVolumeError, match="beyond the slices"):
        fill([beyond], geometry)
    aside = inside + 100 * geometry.affine[:3, 2]
    assert fill([aside], geometry).sum() == 0


def test_labels_follow_names_not_numbers(tmp_path):
    layout = listed(cohort(tmp_path))
    assert layout.facts.label_names == {1: "Back", 2: "Front"}
    assert layout.facts.modality == "CT"
    front, back = boxes()
    for case in layout.cases:
        labels = io.read_voxels(case.label)
        header = io.read_header(case.label)
        truth = io.to_ras(2 * front + back, _turned(header.affine))
        np.testing.assert_array_equal(io.to_ras(labels, header.affine), truth)
    assert {case.subject for case in layout.cases} == {"ID0", "ID1", "ID2", "ID3"}


def _turned(affine):
    """Affine of the slices as written, which ascend, whatever way they were sorted."""
    if affine[2, 0] > 0:
        return affine
    turned = affine.copy()
    turned[:3, 0] *= -1
    return turned


def test_structures_of_few_files_are_left_out(tmp_path):
    front, back = boxes()
    for i in range(3):
        slices = dicoms.series(tmp_path / f"p{i}", stored(i), patient=f"ID{i}")
        own = {"Front": front, f"Jane Doe {i}": back}
        dicoms.seg(tmp_path / f"p{i}/seg", slices, own)
    assert listed(tmp_path).facts.label_names == {1: "Front"}
    asked = listed(tmp_path, structures={"all": "jane.*", "front": "FRONT"})
    assert asked.facts.label_names == {1: "all", 2: "front"}
    assert set(np.unique(io.read_voxels(asked.cases[0].label))) == {0, 1, 2}
    with pytest.raises(CohortError, match="spleen fits the name of no structure in 3"):
        listed(tmp_path, structures={"spleen": "spleen"})


def test_a_structure_that_is_not_drawn_is_told(tmp_path, caplog):
    cohort(tmp_path, 3)
    slices = dicoms.series(tmp_path / "p9", stored(9), patient="ID9")
    dicoms.seg(tmp_path / "p9/seg", slices, {"Back": boxes()[1]})
    with caplog.at_level(logging.WARNING):
        listed(tmp_path)
    assert "Front is drawn in 3 of 4" in caplog.text


def test_structures_that_overlap(tmp_path):
    front, _ = boxes()
    for i in range(2):
        slices = dicoms.series(tmp_path / f"p{i}", stored(i), patient=f"ID{i}")
        dicoms.seg(tmp_path / f"p{i}/seg", slices, {"inner": front, "outer": np.ones(SHAPE, bool)})
    with pytest.raises(io.UnreadableVolumeError, match=r"overlap in 60 voxels.*cohort\.structures"):
        io.read_voxels(listed(tmp_path).cases[0].label)
    asked = listed(tmp_path, structures={"outer": "outer", "inner": "inner"})
    labels = io.read_voxels(asked.cases[0].label)
    assert (labels == 2).sum() == front.sum()
    assert (labels == 1).sum() == labels.size - front.sum()


def test_an_rtstruct_that_names_no_series(tmp_path):
    slices = dicoms.series(tmp_path / "ct", stored())
    geometry = geometry_of(Address(str(tmp_path / "ct"), slices[0].SeriesInstanceUID))
    points = geometry.map_indices_to_reference(circle((3, 6, 6), 3))
    dicoms.rtstruct(tmp_path / "rt", slices, {"mass": [points]}, names_series=False)
    (case,) = listed(tmp_path).cases
    assert (case.case, io.read_voxels(case.label).any()) == ("ct", True)


def test_which_series_are_cases(tmp_path):
    cohort(tmp_path, 2)
    scout = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    dicoms.series(tmp_path / "scout", stored(7), patient="ID0", image_type=scout)
    for i, kind in enumerate(("T1 ax", "T2 ax")):
        how = {"patient": f"ID{i}", "modality": "MR", "description": kind, "prefix": kind[:2]}
        dicoms.series(tmp_path / "mr", stored(8 + i), **how)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "notes.txt").write_text("nothing")
    assert [case.case for case in listed(tmp_path).cases] == ["p0", "p1"]  # CT: it is labelled
    both = listed(tmp_path, modality="MR").cases
    assert [case.case for case in both] == ["mr/series-1", "mr/series-2"]
    (one,) = listed(tmp_path, modality="MR", series_description="t2").cases
    assert one.subject == "ID1"
    assert one.label is None
    with pytest.raises(CohortError, match=r"cohort\.series_description 'PD' fits none of 2 series"):
        listed(tmp_path, modality="MR", series_description="PD")
    with pytest.raises(CohortError, match="read as CT or MR"):
        listed(tmp_path, modality="shape")


def test_a_choice_is_asked_for(tmp_path):
    a = dicoms.series(tmp_path / "ct", stored(1))
    b = dicoms.series(tmp_path / "mr", stored(2), modality="MR")
    for name, slices in (("ct", a), ("mr", b)):
        dicoms.seg(tmp_path / f"{name}_seg", slices, {"mass": boxes()[0]})
    with pytest.raises(CohortError, match=r"holds CT and MR series.*cohort\.modality"):
        listed(tmp_path)
    dicoms.seg(tmp_path / "again", a, {"mass": boxes()[0]})
    with pytest.raises(CohortError, match="1 series have more than one SEG or RTSTRUCT"):
        listed(tmp_path, modality="CT")


def test_a_segmentation_whose_series_is_not_there(tmp_path):
    cohort(tmp_path)
    for file in (tmp_path / "p1").glob("IM*"):
        file.unlink()
    found = validate(scan(CohortConfig(path=tmp_path)), CohortConfig())
    (row,) = found.quarantine.to_dict("records")
    assert "label without image" in row["reason"]
    assert len(found.good) == 3


def test_one_patient_id_for_all(tmp_path, caplog):
    for i in range(2):
        dicoms.series(tmp_path / f"p{i}", stored(i), patient="ANON")
    with caplog.at_level(logging.WARNING):
        assert {case.subject for case in listed(tmp_path).cases} == {"ANON"}
    assert "cohort.subject.regex" in caplog.text
    rule = {"regex": r"p(\d+)"}
    cases = scan(CohortConfig(path=tmp_path, subject=rule)).cases
    assert cases["subject"].nunique() == 2


def test_no_patient_is_named(tmp_path, caplog):
    """Neither names nor ids get beyond the key table, of good cases and of bad ones."""
    cohort(tmp_path / "Jane_Doe", 4)
    (tmp_path / "Jane_Doe/p0/IM028").unlink()
    config = CohortConfig(path=tmp_path / "Jane_Doe")
    with caplog.at_level(logging.DEBUG):
        files = scan(config)
        found = validate(files, config)
    public = found.good[["case", "subject", "shape"]].to_csv() + found.quarantine.to_csv()
    for secret in ("ID0", "ID1", "Doe", "Jane", "19700101"):
        assert secret not in public
        assert secret not in caplog.text


def test_the_same_cohort_as_from_nifti(tmp_path, build):
    """A cohort of DICOM files gives the volumes and labels that the same as NIfTI gives."""
    root = tmp_path / "nifti"
    front, back = boxes()
    for i in range(4):
        slices = dicoms.series(tmp_path / f"dicom/p{i}", stored(i), patient=f"ID{i}")
        dicoms.seg(tmp_path / f"dicom/p{i}/seg", slices, {"front": front, "back": back})
        affine = dicoms.affine_of(slices)
        build.save(root / f"images/p{i}.nii", stored(i).astype(np.int16) - 1024, affine)
        build.save(root / f"labels/p{i}.nii", (2 * front + back).astype(np.uint8), affine)
    how = {"case_names": "keep", "modality": "CT"}
    split = SplitConfig(train_subjects=2)
    one = load_cohort(CohortConfig(path=tmp_path / "dicom", **how), split)
    other = load_cohort(CohortConfig(path=root, **how), split)
    assert one.cases == other.cases
    np.testing.assert_allclose(one.images.numpy(), other.images.numpy(), atol=1e-5)
    np.testing.assert_array_equal(one.labels.numpy(), other.labels.numpy())
    np.testing.assert_allclose(one.affines, other.affines, atol=1e-6)


def test_an_address_is_a_string(tmp_path):
    at = Address(str(tmp_path / 'a "b", c'), "1.2", "x::y", ((3, 1), (1, 2)), True)
    assert Address.parse(str(at)) == at


def test_names_depend_on_the_bytes_not_on_the_files(tmp_path):
    slices = dicoms.series(tmp_path / "a", stored())
    before = io.content_digest(address(tmp_path / "a", slices))
    for number, file in enumerate(sorted((tmp_path / "a").iterdir())):
        file.rename(tmp_path / "a" / f"{99 - number}.dcm")
    io.release()
    assert io.content_digest(address(tmp_path / "a", slices)) == before


def test_a_folder_of_names_is_recognised_by_its_bytes(tmp_path):
    dicoms.series(tmp_path / "deep/er", stored())
    layout = listed(tmp_path)
    assert layout.facts.layout == "dicom"
    assert [Path(case.case).as_posix() for case in layout.cases] == ["deep/er"]
