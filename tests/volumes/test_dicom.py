"""DICOM series, SEGs and RTSTRUCTs, against volumes and shapes known by construction."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from matplotlib.path import Path as Outline
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, generate_uid

from dreamorph.errors import CohortError
from dreamorph.volumes import io
from dreamorph.volumes.config import CohortConfig, SplitConfig
from dreamorph.volumes.dicom import Address
from dreamorph.volumes.dicom.series import read_header
from dreamorph.volumes.dicom.structures import CLOSED_XOR, Contour, fill, inside
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
    return str(Address((str(folder),), slices[0].SeriesInstanceUID))


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
    one = str(Address((str(tmp_path / "one"),), enhanced.SeriesInstanceUID))
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
    (tmp_path / "p2/IM007").write_bytes((tmp_path / "p2/IM007").read_bytes()[:-50])
    found = validate(scan(CohortConfig(path=tmp_path, case_names="keep")), CohortConfig())
    assert found.good["case"].to_list() == ["p3"]
    details = found.quarantine.set_index("case")["detail"]
    assert "do not form one regular volume" in details["p0"]
    assert "do not form one regular volume" in details["p1"]
    assert "cut short" in details["p2"]
    assert "gdcm" not in details["p2"]


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
    at = Address((str(tmp_path),), slices[0].SeriesInstanceUID, str(file), ((1, 2), (2, 1)))
    truth = io.to_ras(2 * front + back, dicoms.affine_of(slices))
    np.testing.assert_array_equal(_in_ras(str(at)), truth)


def test_label_maps_and_fractions_are_read_as_segments(tmp_path):
    """A label map lists its background as number 0, which is no structure."""
    front, back = boxes()
    for kind in ("LABELMAP", "FRACTIONAL"):
        for i in range(2):
            slices = dicoms.series(tmp_path / kind / f"p{i}", stored(i), patient=f"ID{i}")
            named = {"Front": front, "Back": back}
            dicoms.seg(tmp_path / kind / f"p{i}/seg", slices, named, kind=kind)
        layout = listed(tmp_path / kind)
        assert layout.facts.label_names == {1: "Back", 2: "Front"}
        truth = io.to_ras(2 * front + back, dicoms.affine_of(slices))
        np.testing.assert_array_equal(_in_ras(layout.cases[1].label), truth)


def test_a_segmentation_of_one_slice(tmp_path):
    slices = dicoms.series(tmp_path, stored(), orientation="oblique")
    mask = np.zeros(SHAPE, bool)
    mask[5, 3:8, 2:6] = True
    file = dicoms.seg(tmp_path / "seg", slices, {"m": mask})
    at = Address((str(tmp_path),), slices[0].SeriesInstanceUID, str(file), ((1, 1),))
    np.testing.assert_array_equal(_in_ras(str(at)), io.to_ras(mask, dicoms.affine_of(slices)))


@pytest.mark.parametrize("syntax", ["1.2.840.113619.5.2", "1.2.840.10008.5.1.4.1.1.2"])
def test_an_unknown_coding_sets_one_case_aside(tmp_path, syntax):
    cohort(tmp_path, 3)
    for file in (tmp_path / "p0").glob("IM*"):
        content = file.read_bytes()
        known = b"1.2.840.10008.1.2.1\0"
        file.write_bytes(content.replace(known, syntax.encode().ljust(len(known), b"\0")[:20]))
    config = CohortConfig(path=tmp_path, case_names="keep")
    found = validate(scan(config), config)
    assert found.good["case"].to_list() == ["p1", "p2"]


def test_other_objects_of_a_series_are_passed_over(tmp_path):
    """A scout, and a SEG that bears its images' SeriesInstanceUID."""
    slices = dicoms.series(tmp_path, stored())
    before = io.read_voxels(address(tmp_path, slices))
    file = dicoms.seg(tmp_path / "seg", slices, {"Front": boxes()[0]})
    one = pydicom.dcmread(file)
    one.SeriesInstanceUID = slices[0].SeriesInstanceUID
    one.save_as(file)
    scout = pydicom.dcmread(tmp_path / "IM007")
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    scout.ImagePositionPatient = [0.0, 0.0, 0.0]
    scout.save_as(tmp_path / "scout")
    io.release()
    (case,) = listed(tmp_path, structures={"front": "front"}).cases
    np.testing.assert_array_equal(io.read_voxels(case.image), before)
    assert io.read_voxels(case.label).sum() == boxes()[0].sum()


def test_a_segmentation_on_another_grid_is_refused(tmp_path):
    slices = dicoms.series(tmp_path / "a", stored())
    other = dicoms.series(tmp_path / "b", stored(), spacing=(2.5, 1.0, 1.0))
    file = dicoms.seg(tmp_path / "seg", other, {"Front": boxes()[0]})
    one = pydicom.dcmread(file)
    one.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    one.save_as(file)
    at = Address((str(tmp_path / "a"),), slices[0].SeriesInstanceUID, str(file), ((1, 1),))
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
    at = Address((str(tmp_path),), slices[0].SeriesInstanceUID, str(file), ((7, 1),))
    rows, columns = np.indices(shape[1:])
    ring = np.hypot(rows - 19.3, columns - 20.6) < 12.4
    ring &= ~(np.hypot(rows - 21.3, columns - 18.6) < 4.7)
    truth = np.zeros(shape)
    truth[2] = ring
    drawn = _in_ras(str(at))
    truth = io.to_ras(truth, dicoms.affine_of(slices))
    assert np.abs(drawn - truth).sum() <= 2  # a polygon of 400 points is not quite a circle
    assert drawn.sum() == pytest.approx(np.pi * (12.4**2 - 4.7**2), rel=0.02)


@pytest.fixture
def header(tmp_path):
    """Of a volume (9, 40, 44) with slices of 2 mm and pixels of 0.5 mm."""
    slices = dicoms.series(tmp_path, stored(shape=(9, 40, 44)), spacing=(2.0, 0.5, 0.5))
    return read_header(Address((str(tmp_path),), slices[0].SeriesInstanceUID))


def drawn(header, *outlines, kind="CLOSED_PLANAR"):
    """Contours of outlines in voxel indices."""
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ header.affine
    return [Contour(nib.affines.apply_affine(to_lps, outline), kind) for outline in outlines]


def test_contours_off_the_slices_are_refused(header):
    disc = circle((3, 20, 20), 8)
    assert fill(drawn(header, disc), header).any()
    with pytest.raises(io.UnreadableVolumeError, match="does not lie in a slice"):
        fill(drawn(header, disc + np.array([0.4, 0, 0])), header)
    with pytest.raises(io.UnreadableVolumeError, match="beyond the slices"):
        fill(drawn(header, disc + np.array([20, 0, 0])), header)
    assert not fill(drawn(header, disc + np.array([0, 0, 100])), header).any()


def test_outlines_in_one_slice(header):
    """Copies count once, an outline within another cuts a hole, others are joined."""
    disc = circle((3, 20, 20), 8)
    alone = fill(drawn(header, disc), header)
    for copies in ([disc, disc], [disc, disc[::-1]], [disc, np.roll(disc, 7, axis=0) + 1e-7]):
        np.testing.assert_array_equal(fill(drawn(header, *copies), header), alone)
    for copy in (np.round(disc, 1), circle((3, 20, 20), 7.8)):  # nearly one
        np.testing.assert_array_equal(fill(drawn(header, disc, copy), header), alone)
    wall = fill(drawn(header, disc, circle((3, 20, 20), 7)), header)
    assert 0.5 < wall.sum() / (np.pi * (8**2 - 7**2)) < 1.5
    hole = fill(drawn(header, circle((3, 20, 20), 4)), header)
    island = fill(drawn(header, circle((3, 20, 20), 2)), header)
    rings = [circle((3, 20, 20), radius) for radius in (2, 8, 4)]
    np.testing.assert_array_equal(fill(drawn(header, *rings), header), alone & ~hole | island)
    other = circle((3, 20, 30), 8)  # they overlap
    joined = alone | fill(drawn(header, other), header)
    np.testing.assert_array_equal(fill(drawn(header, disc, other), header), joined)
    apart = fill(drawn(header, disc, other, kind=CLOSED_XOR), header)
    np.testing.assert_array_equal(apart, alone ^ fill(drawn(header, other), header))


def test_contours_finer_than_the_slices(header):
    """The plane nearest to a slice's middle counts."""
    sizes = {2.8: 4, 3.0: 8, 3.2: 6, 3.8: 4, 4.0: 9, 4.2: 5}
    outlines = [circle((place, 20, 20), size) for place, size in sizes.items()]
    nearest = fill(drawn(header, outlines[1], outlines[4]), header)
    np.testing.assert_array_equal(fill(drawn(header, *outlines), header), nearest)


def test_contours_on_every_second_slice_are_refused(header):
    every_second = [circle((number, 20, 20), 8) for number in (1, 3, 5, 7)]
    with pytest.raises(io.UnreadableVolumeError, match="leave out most slices"):
        fill(drawn(header, *every_second), header)
    for apart in ((3, 8), (1, 4, 8), (0, 1, 2, 6)):  # lesions of a slice or some
        lesions = fill(drawn(header, *[circle((n, 20, 20), 8) for n in apart]), header)
        assert np.flatnonzero(lesions.any(axis=(1, 2))).tolist() == list(apart)
    two_parts = [circle((number, 20, 20), 8) for number in (0, 1, 2, 6, 7, 8)]
    assert fill(drawn(header, *two_parts), header)[[0, 1, 2, 6, 7, 8]].any(axis=(1, 2)).all()


@pytest.mark.parametrize("noise", [0.0, 1e-12, -1e-12])
@pytest.mark.parametrize("direction", [1, -1])
def test_pixels_on_an_outline_belong_to_it(header, noise, direction):
    corners = np.array([[3, 10, 10], [3, 10, 19], [3, 19, 19], [3, 19, 10]], dtype=float)
    outline = corners[::direction] + noise
    assert fill(drawn(header, outline), header).sum() == 100


def test_polygons_are_filled_as_by_another_program():
    """By the even-odd rule, self-crossing ones and ones that leave the picture included."""
    generator = np.random.default_rng(0)
    pixels = np.stack(np.meshgrid(np.arange(30), np.arange(25), indexing="ij"), axis=-1)
    for count in (3, 4, 7, 20):
        outline = generator.uniform(-5, 32, (count, 2))
        truth = Outline(outline, closed=False).contains_points(pixels.reshape(-1, 2))
        np.testing.assert_array_equal(inside(outline, (30, 25)), truth.reshape(30, 25))


def test_a_keyhole_is_a_hole(header):
    """An outline that goes in to another one and back, as some systems write holes."""
    outer, inner = circle((3, 20.3, 20.6), 12), circle((3, 20.3, 20.6), 5)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:], outer[:1]])
    ring = fill(drawn(header, outer, inner), header)
    found = fill(drawn(header, keyhole), header)
    np.testing.assert_array_equal(found, ring)


def test_contours_of_points_that_are_no_numbers_are_refused(tmp_path):
    slices = dicoms.series(tmp_path, stored())
    points = np.array([[0.0, 0, 0], [1, 0, 0], [np.nan, 1, 0]])
    file = dicoms.rtstruct(tmp_path / "rt", slices, {"mass": [points]})
    at = Address((str(tmp_path),), slices[0].SeriesInstanceUID, str(file), ((1, 1),))
    with pytest.raises(io.UnreadableVolumeError, match="not finite"):
        io.read_voxels(str(at))


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
    assert {case.subject for case in layout.cases} == {"id0", "id1", "id2", "id3"}


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
    with pytest.raises(
        CohortError, match="spleen fits the name of no structure that is drawn in 3"
    ):
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


def disc_of(slices):
    """A disc in the fourth slice, LPS mm."""
    place = np.diag([-1.0, -1.0, 1.0, 1.0]) @ dicoms.affine_of(slices)
    return nib.affines.apply_affine(place, circle((3, 6, 6), 3))


def test_an_rtstruct_that_names_no_series(tmp_path):
    slices = dicoms.series(tmp_path / "ct", stored())
    points = disc_of(slices)
    dicoms.rtstruct(tmp_path / "rt", slices, {"mass": [points]}, names_series=False)
    (case,) = listed(tmp_path, structures={"mass": "mass"}).cases
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
    assert [case.case for case in listed(tmp_path).cases] == ["p0", "p1"]  # CT is labelled
    both = listed(tmp_path, modality="MR").cases
    assert sorted(case.case for case in both) == ["mr/series-1", "mr/series-2"]
    (one,) = listed(tmp_path, modality="MR", series_description="t2").cases
    assert one.subject == "id1"
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


def test_several_drawings_on_one_series_set_it_aside(tmp_path):
    cohort(tmp_path)
    slices = [pydicom.dcmread(file) for file in sorted((tmp_path / "p0").glob("IM*"))]
    copy = tmp_path / "copy of seg"
    copy.write_bytes((tmp_path / "p0/seg").read_bytes())  # the same once more does not count
    assert len(listed(tmp_path).cases) == 4
    assert all(case.label for case in listed(tmp_path).cases)
    dicoms.seg(tmp_path / "again", slices, {"Front": boxes()[0], "Back": boxes()[1]})
    config = CohortConfig(path=tmp_path, case_names="keep")
    found = validate(scan(config), config)
    (row,) = found.quarantine.to_dict("records")
    assert (row["case"], row["reason"]) == ("p0", "ambiguous label")
    assert len(found.good) == 3


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
        assert {case.subject for case in listed(tmp_path).cases} == {"anon"}
    assert "cohort.subject.regex" in caplog.text
    rule = {"regex": r"p(\d+)"}
    cases = scan(CohortConfig(path=tmp_path, subject=rule)).cases
    assert cases["subject"].nunique() == 2


@pytest.mark.parametrize("case_names", ["auto", "keep"])
def test_no_patient_is_named(tmp_path, caplog, case_names):
    """Neither names nor ids get beyond the key table, of good cases and of bad ones."""
    root = tmp_path / "Jane_Doe"
    for i in range(4):  # folders that are study codes, ids that look like them
        slices = dicoms.series(root / f"case_{i}", stored(i), patient=f"{4700 + i}")
        front, back = boxes()
        dicoms.seg(root / f"case_{i}/seg", slices, {"Front": front, "Jane Doe's": back})
    (root / "case_0/IM028").unlink()
    for file in (root / "case_1").iterdir():  # the library warns of such a UID, in words
        uid = pydicom.dcmread(file).StudyInstanceUID.encode()
        odd = b"DOE^JANE.1970".ljust(len(uid), b"0")
        file.write_bytes(file.read_bytes().replace(uid, odd))
    config = CohortConfig(path=root, case_names=case_names)
    with caplog.at_level(logging.DEBUG):
        files = scan(config)
        found = validate(files, config)
    assert found.good["case"].to_list() == ["case_1", "case_2", "case_3"]
    assert found.facts.label_names == {1: "Front", 2: "Jane Doe's"}
    public = found.good[["case", "subject", "shape"]].to_csv() + found.quarantine.to_csv()
    for secret in ("470", "Doe", "DOE", "Jane", "19700101"):
        assert secret not in public
        assert secret not in caplog.text


def test_a_name_with_one_patient_is_no_label(tmp_path):
    """However many sessions of the patient bear it."""
    for i in range(3):
        slices = dicoms.series(tmp_path / f"s{i}", stored(i), patient="ID0")
        dicoms.seg(tmp_path / f"s{i}/seg", slices, {"Jane Doe 1970": boxes()[0]})
    with pytest.raises(CohortError, match=r"0 names of structures.*cohort\.structures.*: none"):
        listed(tmp_path)
    assert listed(tmp_path, structures={"mass": ".*"}).facts.label_names == {1: "mass"}


def test_names_that_only_number_are_no_labels(tmp_path):
    for i in range(3):
        slices = dicoms.series(tmp_path / f"p{i}", stored(i), patient=f"ID{i}")
        named = {"Segment_1": boxes()[i % 2], "Segment_2": boxes()[1 - i % 2]}
        dicoms.seg(tmp_path / f"p{i}/seg", slices, named)
    with pytest.raises(
        CohortError, match=r"other than mere numbers.*several patients: Segment_1, Segment_2\)"
    ):
        listed(tmp_path)


def test_a_region_that_nobody_drew_is_not_there(tmp_path, caplog):
    """Planning systems list the regions of a template, drawn or not."""
    for i in range(3):
        slices = dicoms.series(tmp_path / f"p{i}", stored(i), patient=f"ID{i}")
        regions = {"heart": [disc_of(slices)], "liver": [disc_of(slices)] if i == 0 else []}
        dicoms.rtstruct(tmp_path / f"p{i}/rt", slices, regions)
    assert listed(tmp_path).facts.label_names == {1: "heart"}
    with caplog.at_level(logging.WARNING):
        listed(tmp_path, structures={"heart": "heart", "liver": "liver"})
    assert "liver is drawn in 1 of 3" in caplog.text


def test_patients_without_an_id_are_told(tmp_path, caplog):
    for i in range(3):
        dicoms.series(tmp_path / f"p{i}", stored(i), patient="")
    with caplog.at_level(logging.WARNING):
        assert len({case.subject for case in listed(tmp_path).cases}) == 3
    assert "3 series bear no PatientID" in caplog.text


@pytest.mark.parametrize(("degrees", "refused"), [(0.8, False), (2.0, True)])
def test_a_tilted_gantry_is_seen(tmp_path, degrees, refused):
    """Slices that do not stand upright on one another: little is corrected, more is refused."""
    slices = dicoms.series(tmp_path, stored(shape=(40, 14, 12)))
    shift = dicoms.SPACING[0] * np.tan(np.radians(degrees))
    for number, file in enumerate(sorted(tmp_path.glob("IM*"), key=_number)):
        one = pydicom.dcmread(file)
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, round(y + number * shift, 6), z]
        one.save_as(file)
    config = CohortConfig(path=tmp_path)
    found = validate(scan(config), config)
    assert found.good.empty is refused
    if refused:
        assert "gantry tilt" in found.quarantine["detail"].item()
    header = io.read_header(address(tmp_path, slices))
    last = header.affine @ [39, 0, 0, 1]
    first = header.affine @ [0, 0, 0, 1]
    assert abs(last[1] - first[1]) == pytest.approx(39 * shift, abs=1e-3)


def _number(file):
    return int(pydicom.dcmread(file).InstanceNumber)


@pytest.mark.parametrize(("decimals", "spacing"), [(3, 1.3333), (2, 0.625), (1, 1.25), (1, 3.33)])
def test_rounded_positions(tmp_path, decimals, spacing):
    """Scanners write positions with few decimals; series and SEG stay what they are."""
    shape = (30, 14, 12)
    slices = dicoms.series(tmp_path, stored(shape=shape), spacing=(spacing, 0.75, 1.5))
    for file in tmp_path.glob("IM*"):
        one = pydicom.dcmread(file)
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, y, round(float(z), decimals)]
        one.save_as(file)
    mask = np.zeros(shape, bool)
    mask[5:11, 3:8, 2:6] = mask[20:24, 5:9, 3:5] = True
    file = dicoms.seg(tmp_path / "seg", slices, {"m": mask})
    at = Address((str(tmp_path),), slices[0].SeriesInstanceUID, str(file), ((1, 1),))
    np.testing.assert_array_equal(_in_ras(str(at)), io.to_ras(mask, dicoms.affine_of(slices)))


@pytest.mark.parametrize(("lost", "message"), [((0,), None), ((0, 1, 2, 3), "reaches beyond")])
def test_a_series_whose_first_slices_are_lost(tmp_path, lost, message):
    """Nothing tells, but a SEG that reaches beyond what is left."""
    cohort(tmp_path, 3)
    for number in lost:
        (tmp_path / f"p0/IM{number * 7:03d}").unlink()
    config = CohortConfig(path=tmp_path, case_names="keep")
    found = validate(scan(config), config)
    assert ("p0" in set(found.good["case"])) is (message is None)
    if message is None:
        at = dict(zip(found.good["case"], found.good["label"], strict=True))
        assert (io.read_voxels(at["p0"]) > 0).sum() == (io.read_voxels(at["p1"]) > 0).sum()
    else:
        assert message in found.quarantine["detail"].item()


def test_slices_that_were_copied_or_lie_in_two_folders(tmp_path):
    whole = dicoms.series(tmp_path / "a/whole", stored())
    at = str(Address((str(tmp_path / "a/whole"),), whole[0].SeriesInstanceUID))
    before = io.read_voxels(at)
    (tmp_path / "a/whole/copy").write_bytes((tmp_path / "a/whole/IM007").read_bytes())
    io.release()
    np.testing.assert_array_equal(io.read_voxels(at), before)
    (tmp_path / "a/rest").mkdir()
    for name in ("IM007", "IM014", "copy"):
        (tmp_path / "a/whole" / name).rename(tmp_path / "a/rest" / name)
    io.release()
    (case,) = listed(tmp_path).cases
    np.testing.assert_array_equal(io.read_voxels(case.image), before)


def test_one_broken_file_spoils_no_other_series(tmp_path):
    front, back = boxes()
    for i in range(3):
        slices = dicoms.series(tmp_path, stored(i), patient=f"ID{i}", prefix=f"P{i}_")
        dicoms.seg(tmp_path / f"seg{i}", slices, {"Front": front, "Back": back})
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    config = CohortConfig(path=tmp_path)
    assert len(validate(scan(config), config).good) == 3


def test_an_inverted_greyscale_is_how_it_is_shown_only(tmp_path):
    slices = dicoms.series(tmp_path, stored())
    before = io.read_voxels(address(tmp_path, slices))
    for file in tmp_path.glob("IM*"):
        one = pydicom.dcmread(file)
        one.PhotometricInterpretation = "MONOCHROME1"
        one.save_as(file)
    np.testing.assert_array_equal(io.read_voxels(address(tmp_path, slices)), before)


def test_a_drawing_of_two_series_goes_by_its_images(tmp_path):
    """An RTSTRUCT may name the series that was looked at as well as the one drawn on."""
    slices = dicoms.series(tmp_path / "ct", stored(1))
    other = dicoms.series(tmp_path / "late", stored(2))
    file = dicoms.rtstruct(tmp_path / "rt", slices, {"mass": [disc_of(slices)]})
    one = pydicom.dcmread(file)
    study = one.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    second = pydicom.Dataset()
    second.SeriesInstanceUID = other[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence.append(second)
    one.save_as(file)
    config = CohortConfig(path=tmp_path, structures={"mass": "mass"}, case_names="keep")
    found = validate(scan(config), config)
    assert "ambiguous label" in found.quarantine["reason"].to_list()
    image = pydicom.Dataset()
    image.ReferencedSOPInstanceUID = slices[3].SOPInstanceUID
    one.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image]
    one.save_as(file)
    labelled = {
        case.case: case.label is not None
        for case in listed(tmp_path, structures={"mass": "mass"}).cases
    }
    assert labelled == {"ct": True, "late": False}


def test_another_frame_of_reference_is_refused(tmp_path):
    slices = dicoms.series(tmp_path, stored())
    file = dicoms.seg(tmp_path / "seg", slices, {"Front": boxes()[0]})
    one = pydicom.dcmread(file)
    one.FrameOfReferenceUID = generate_uid()
    one.save_as(file)
    at = Address((str(tmp_path),), slices[0].SeriesInstanceUID, str(file), ((1, 1),))
    with pytest.raises(io.UnreadableVolumeError, match="another frame of reference"):
        io.read_voxels(str(at))


def test_nifti_and_dicom_in_one_folder_ask_which(tmp_path, build):
    cohort(tmp_path, 2)
    build.save(tmp_path / "p0/converted.nii.gz", build.image(1))
    with pytest.raises(CohortError, match=r"NIfTI and DICOM files.*cohort\.layout"):
        listed(tmp_path)
    assert len(listed(tmp_path, layout="dicom").cases) == 2


def test_files_without_the_mark_are_told(tmp_path, caplog):
    cohort(tmp_path, 2)
    bare = (tmp_path / "p0/IM007").read_bytes()[132:]
    (tmp_path / "p0/IM007").unlink()
    (tmp_path / "p0/bare.dcm").write_bytes(bare)
    with caplog.at_level(logging.WARNING):
        listed(tmp_path)
    assert "1 files called .dcm do not bear DICOM's mark" in caplog.text


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
    at = Address((str(tmp_path / 'a "b", c'), "d"), "1.2", "x::y", ((3, 1), (1, 2)), True)
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
