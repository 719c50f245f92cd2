"""Every fault is named in the quarantine table, and nothing else is."""

import gzip

import numpy as np
import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.records import rows
from dreamorph.volumes.scan import scan
from dreamorph.volumes.validation import quarantine_summary, validate

IMAGE = "imagesTr/scan_003.nii.gz"
LABEL = "labelsTr/scan_003.nii.gz"


def check(path, **kwargs):
    config = CohortConfig(path=path, **kwargs)
    return validate(scan(config), config)


def reasons(result):
    return {row["case"]: row["reason"] for row in rows(result.quarantine)}


def mirrored(build, root):
    """Another case's image with its first axis the other way round, at the same place."""
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = build.shape[0] - 1
    build.save(root / IMAGE, build.image(2)[::-1], affine)
    build.save(root / LABEL, build.label()[::-1], affine)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def with_nan(array):
    array = array.astype(np.float32)
    array[2, 2, 2] = np.nan
    return array


def moved(mm):
    affine = np.eye(4)
    affine[0, 3] = mm
    return affine


def sheared(degrees):
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(degrees))
    return affine


def both(build, root, affine, part=np.s_[:, :, :5]):
    build.save(root / IMAGE, build.image(3)[part], affine)
    build.save(root / LABEL, build.label()[part], affine)


def spots(build, value):
    """Nearly all voxels have one value."""
    result = np.full(build.shape, value, dtype=np.int16)
    result[3, 3, 3:6] = (1, 8, 9)
    return result


def write_singular(build, path):
    """The sform's first row set to 0 in the file itself: nibabel would refuse to write it."""
    plain = build.save(path.with_suffix(""), build.image(3))
    content = bytearray(plain.read_bytes())
    content[280:296] = bytes(16)
    plain.unlink()
    path.write_bytes(gzip.compress(bytes(content)))


def rewrite(path, offset, content):
    """Some bytes of a NIfTI header, which nibabel would not write so."""
    whole = bytearray(gzip.decompress(path.read_bytes()))
    whole[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(whole)))


def other_sizes(*paths):
    for path in paths:
        rewrite(path, 80, np.array([0.5, 0.5, 3.0], np.float32).tobytes())


def unoriented(*paths):
    for path in paths:
        rewrite(path, 252, bytes(4))


def sentinel(build, value):
    volume = build.image(3).astype(np.float64)
    volume[0] = value
    return volume


FAULTS = {
    "sizes": (lambda b, r: other_sizes(r / IMAGE, r / LABEL), "invalid affine"),
    "no orientation": (lambda b, r: unoriented(r / IMAGE, r / LABEL), "no orientation"),
    "a mark for no value": (
        lambda b, r: b.save(r / IMAGE, sentinel(b, -1.7e308)),
        "non-finite voxels",
    ),
    "a smaller mark": (lambda b, r: b.save(r / IMAGE, sentinel(b, -3.4e38)), "non-finite voxels"),
    "missing label": (lambda b, r: (r / LABEL).unlink(), "image without label"),
    "missing image": (lambda b, r: (r / IMAGE).unlink(), "label without image"),
    "both missing": (lambda b, r: [(r / f).unlink() for f in (IMAGE, LABEL)], "files missing"),
    "shape": (lambda b, r: b.save(r / LABEL, b.label()[:-1]), "shape mismatch"),
    "many maps": (
        lambda b, r: b.save(r / LABEL, np.stack([b.label()] * 2, axis=-1)),
        "shape mismatch",
    ),
    "half voxel": (lambda b, r: b.save(r / LABEL, b.label(), moved(0.5)), "affine mismatch"),
    "flipped": (
        lambda b, r: b.save(r / LABEL, b.label(), np.diag([-1.0, 1, 1, 1])),
        "affine mismatch",
    ),
    "nan": (lambda b, r: b.save(r / IMAGE, with_nan(b.image(3))), "non-finite voxels"),
    "nan label": (lambda b, r: b.save(r / LABEL, with_nan(b.label())), "unexpected label values"),
    "fraction": (
        lambda b, r: b.save(r / LABEL, b.label().astype(np.float32) * 1.5),
        "unexpected label values",
    ),
    "negative": (
        lambda b, r: b.save(r / LABEL, -b.label().astype(np.int16)),
        "unexpected label values",
    ),
    "undeclared": (lambda b, r: b.save(r / LABEL, b.label() * 3), "unexpected label values"),
    "empty": (lambda b, r: b.save(r / LABEL, b.label() * 0), "empty label"),
    "large": (
        lambda b, r: (
            b.save(r / LABEL, b.label((12, 50, 10))) and b.save(r / IMAGE, b.image(3, (12, 50, 10)))
        ),
        "foreign geometry",
    ),
    "coarse": (lambda b, r: both(b, r, np.diag([1.0, 1, 7, 1])), "foreign geometry"),
    "slice": (lambda b, r: both(b, r, np.eye(4), np.s_[:, :, :1]), "foreign geometry"),
    "cut image": (lambda b, r: cut(r / IMAGE), "unreadable"),
    "cut label": (lambda b, r: cut(r / LABEL), "unreadable"),
    "text": (lambda b, r: (r / IMAGE).write_text("no volume"), "unreadable"),
    "constant": (lambda b, r: b.save(r / IMAGE, b.image(3) * 0 + 5), "constant image"),
    "nearly constant": (lambda b, r: b.save(r / IMAGE, spots(b, 7)), "constant image"),
    "nearly empty": (lambda b, r: b.save(r / IMAGE, spots(b, 0)), "constant image"),
    "copy": (lambda b, r: b.save(r / IMAGE, b.image(2).astype(np.float64)), "duplicate image"),
    "copy in other axes": (lambda b, r: mirrored(b, r), "duplicate image"),
    "mask for an image": (lambda b, r: b.save(r / IMAGE, b.label()), "mask instead of image"),
    "sheared": (lambda b, r: both(b, r, sheared(10)), "invalid affine"),
    "singular": (lambda b, r: write_singular(b, r / IMAGE), "invalid affine"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_and_the_rest_goes_on(build, tmp_path, fault):
    root = build.msd(tmp_path, range(1, 6))
    plant, reason = FAULTS[fault]
    plant(build, root)
    result = check(root)
    assert reasons(result) == {"scan_003": reason}
    assert result.quarantine["status"].tolist() == ["quarantined"]
    assert result.good["case"].tolist() == ["scan_001", "scan_002", "scan_004", "scan_005"]
    assert quarantine_summary(result.quarantine) == f"1 {reason}"


def test_a_clean_cohort_has_an_empty_table(build, tmp_path):
    result = check(build.msd(tmp_path, range(1, 6)))
    assert result.quarantine.empty
    assert list(result.quarantine.columns) == ["case", "status", "reason", "detail"]
    assert result.facts.label_names == {1: "front", 2: "back"}
    assert result.good["shape"].unique().tolist() == ["12x14x10"]
    assert quarantine_summary(result.quarantine) == ""


def test_harmless_oddities_pass(build, tmp_path):
    root = build.msd(tmp_path, range(1, 6))
    build.save(root / LABEL, build.label().astype(np.float32))
    # the same voxels of the world, stored in the opposite direction
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = build.shape[0] - 1
    build.save(root / "labelsTr/scan_001.nii.gz", build.label()[::-1], flip)
    assert check(root).quarantine.empty


def test_files_that_the_description_omits_are_named(build, tmp_path):
    root = build.msd(tmp_path, range(1, 5))
    build.save(root / "imagesTr/scan_008.nii.gz", build.image(8))
    build.save(root / "labelsTr/scan_009.nii.gz", build.label())
    found = reasons(check(root))
    assert found == {
        "scan_008": "not in dataset.json; image without label",
        "scan_009": "not in dataset.json; label without image",
    }


def test_a_fault_may_have_several_reasons(build, tmp_path):
    root = build.msd(tmp_path, range(1, 5), listed=False)
    build.save(root / "labelsTr/scan_009.nii.gz", build.label((12, 14, 90)))
    result = check(root)
    assert reasons(result) == {"scan_009": "label without image; foreign geometry"}
    assert "12 x 14 x 90 voxels" in result.quarantine["detail"][0]


def test_missing_label_by_policy(build, tmp_path):
    root = build.msd(tmp_path, range(1, 5))
    (root / LABEL).unlink()
    used = check(root, image_without_label="unlabelled")
    assert used.quarantine["status"].tolist() == ["unlabelled"]
    assert used.quarantine["reason"].tolist() == ["image without label"]
    assert "scan_003" in used.good["case"].tolist()
    assert quarantine_summary(used.quarantine) == ""


def test_in_a_plain_folder_a_missing_label_is_noted(build, tmp_path):
    for i in (1, 2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        if i < 3:
            build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    build.save(tmp_path / "unlabelled/scan_4.nii", build.image(4))
    result = check(tmp_path)
    assert result.quarantine[["case", "status"]].to_numpy().tolist() == [["scan_3", "unlabelled"]]
    assert len(result.good) == 4
    strict = check(tmp_path, image_without_label="quarantine")
    assert strict.good["case"].tolist() == ["scan_1", "scan_2", "scan_4"]


def test_of_equal_images_the_labelled_one_stays(build, tmp_path):
    build.save(tmp_path / "images/scan_1.nii", build.image(7))
    for i in (2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i + 5))
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    build.save(tmp_path / "images/scan_1.nii", build.image(8))
    result = check(tmp_path)
    assert reasons(result) == {"scan_1": "duplicate image"}
    assert "scan_3, which stays" in result.quarantine["detail"][0]


def test_two_subjects_that_share_a_volume_are_one(build, tmp_path, caplog):
    """One patient under two numbers would be learned from and tested on."""
    rows = ["case,subject,image,label"]
    for i, subject in enumerate(("id1", "id1", "mrn1", "mrn1", "x", "y")):
        build.save(tmp_path / f"i{i}.nii", build.image(0 if i == 2 else i))
        build.save(tmp_path / f"l{i}.nii", build.label())
        rows.append(f"c{i},{subject},i{i}.nii,l{i}.nii")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    result = check(tmp_path)
    assert list(reasons(result).values()) == ["duplicate image"]
    own = result.good["subject"].tolist()
    assert own[0] == own[1] == own[2]
    assert len(set(own)) == 3
    assert "1 subjects share a volume with another one" in caplog.text


def test_an_odd_ct_volume_without_its_rescaling_is_set_aside(build, tmp_path):
    def hounsfield(i, intercept):
        return ((build.image(i) - 60).clip(0) * 20 + intercept).astype(np.int16)

    for i in range(4):
        build.save(tmp_path / f"images/scan_{i}.nii", hounsfield(i, 0 if i == 3 else -1024))
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    assert reasons(check(tmp_path)) == {"scan_3": "no Hounsfield units"}
    assert reasons(check(tmp_path, modality="CT")) == {"scan_3": "no Hounsfield units"}
    assert reasons(check(tmp_path, modality="MR")) == {}


def test_an_odd_scan_among_shapes_is_set_aside(build, tmp_path):
    for i in range(6):
        volume = build.image(i)
        shape = (volume > 100).astype(np.uint8)
        build.save(tmp_path / f"images/scan_{i}.nii", volume if i == 2 else shape)
    result = check(tmp_path)
    assert reasons(result)["scan_2"] == "scan among shapes"
    assert result.facts.modality == "shape"


def test_where_no_volume_says_which_way_it_points_that_is_said(build, tmp_path, caplog):
    root = build.msd(tmp_path, range(1, 5))
    for file in root.rglob("*.nii.gz"):
        unoriented(file)
    assert check(root).quarantine.empty
    assert "left and right may be swapped" in caplog.text


def test_labels_off_whole_numbers_by_a_slope_are_those_numbers(build, tmp_path):
    root = build.msd(tmp_path, range(1, 4))
    build.save(root / LABEL, build.label().astype(np.float32) * np.float32(1.00001))
    result = check(root)
    assert result.quarantine.empty
    assert result.facts.label_values == {1: 1, 2: 2}
    build.save(root / LABEL, build.label().astype(np.float32) * np.float32(1.01))
    assert reasons(check(root)) == {"scan_003": "unexpected label values"}


def test_one_structure_written_with_two_values_is_pointed_out(build, tmp_path, caplog):
    for i in (1, 2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        value = 255 if i == 3 else 1
        build.save(tmp_path / f"labels/scan_{i}.nii", (build.label() > 0) * np.uint8(value))
    assert check(tmp_path).facts.label_values == {1: 1, 255: 2}
    assert "(1 in 2, 255 in 1)" in caplog.text
    caplog.clear()
    check(tmp_path, label_names={1: "left", 255: "right"})
    assert "one structure" not in caplog.text


def test_the_table_names_no_patient(build, tmp_path):
    for i, name in enumerate(("Doe_John", "Roe_Jane", "Poe_Jim", "Loe_Jil")):
        build.save(tmp_path / f"{name}_image.nii.gz", build.image(i))
        build.save(tmp_path / f"{name}_label.nii.gz", build.label() * (i > 0))
    cut(tmp_path / "Roe_Jane_image.nii.gz")
    (tmp_path / "Poe_Jim_image.nii.gz").unlink()
    text = check(tmp_path).quarantine.to_csv()
    assert "empty label" in text
    assert "unreadable" in text
    assert "label without image" in text
    assert not any(part in text for part in ("oe_J", "Jane", str(tmp_path), ".nii"))


def test_label_values_become_consecutive(build, tmp_path):
    lookup = np.array([0, 17, 255])
    for i in (1, 2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        build.save(tmp_path / f"labels/scan_{i}.nii", lookup[build.label()].astype(np.int16))
    facts = check(tmp_path).facts
    assert facts.label_values == {17: 1, 255: 2}
    assert facts.label_names == {1: "label_17", 2: "label_255"}
    named = check(tmp_path, label_names={17: "left", 255: "right"}).facts
    assert named.label_names == {1: "left", 2: "right"}
    assert type(facts).model_validate_json(facts.model_dump_json()) == facts
    with pytest.raises(CohortError, match="two labels are called 'side'"):
        check(tmp_path, label_names={17: "side", 255: "side"})


def test_images_given_as_labels_stop(build, tmp_path):
    for i in (1, 2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        voxels = np.arange(1680, dtype=np.int16).reshape(build.shape)
        build.save(tmp_path / f"labels/scan_{i}.nii", voxels)
    with pytest.raises(CohortError, match="1679 different values"):
        check(tmp_path)


@pytest.mark.parametrize("values", [400, 100])
def test_one_image_given_as_a_label_is_set_aside(build, tmp_path, values):
    for i in range(4):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    voxels = np.arange(1680, dtype=np.int16).reshape(build.shape) % values
    build.save(tmp_path / "labels/scan_3.nii", voxels)
    result = check(tmp_path)
    assert reasons(result) == {"scan_3": "unexpected label values"}
    assert f"{values - 1} different values" in result.quarantine["detail"][0]
    assert result.facts.label_values == {1: 1, 2: 2}


def test_a_case_with_some_labels_more_than_the_others_stays(build, tmp_path):
    for i in range(4):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    voxels = np.arange(1680, dtype=np.int16).reshape(build.shape) % 20
    build.save(tmp_path / "labels/scan_3.nii", voxels)
    result = check(tmp_path)
    assert result.quarantine.empty
    assert len(result.facts.label_values) == 19


def test_a_trailing_axis_does_not_stop_the_cohort(build, tmp_path):
    for i in (1, 2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", build.image(i))
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    pair = np.stack([build.image(3), build.image(4)], axis=-1)[..., None]
    build.save(tmp_path / "images/scan_3.nii", pair)
    assert check(tmp_path).quarantine.empty


@pytest.mark.parametrize(
    ("voxels", "modality"),
    [
        (lambda image: image, "MR"),
        (lambda image: (image * 20 - 2000).astype(np.int16), "CT"),
        (lambda image: (image > 100).astype(np.uint8) * 255, "shape"),
    ],
)
def test_modality_is_guessed_from_the_voxels(build, tmp_path, voxels, modality):
    for i in (1, 2, 3):
        build.save(tmp_path / f"images/scan_{i}.nii", voxels(build.image(i)))
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    assert check(tmp_path).facts.modality == modality
    assert check(tmp_path, modality="CT").facts.modality == "CT"


def test_only_one_channel_is_read(build, tmp_path, caplog):
    for i in (1, 2, 3):
        both = np.stack([build.image(i), np.full(build.shape, np.nan, np.float32)], axis=-1)
        build.save(tmp_path / f"images/scan_{i}.nii", both)
        build.save(tmp_path / f"labels/scan_{i}.nii", build.label())
    assert check(tmp_path).quarantine.empty
    assert "only channel 0 is read" in caplog.text
    assert set(reasons(check(tmp_path, channel=1)).values()) == {"non-finite voxels"}
    assert set(reasons(check(tmp_path, channel=2)).values()) == {"unreadable"}


def test_a_label_is_told_from_a_corrected_one(build, tmp_path):
    root = build.msd(tmp_path, range(1, 6))
    before = check(root).good.set_index("case")["label_content"]
    array = build.label().copy()
    array[0, 0, 0] = 1
    build.save(root / LABEL, array)
    after = check(root).good.set_index("case")["label_content"]
    assert (before != after).sum() == 1


def test_a_declared_label_that_no_file_has_takes_no_part(build, tmp_path, caplog):
    """It would count as rightly absent, with a Dice of 1, for every method."""

    def change(description):
        description["labels"] = {"0": "background", "1": "front", "2": "back", "9": "never"}

    facts = check(build.msd(tmp_path, range(1, 4), change=change)).facts
    assert facts.label_values == {1: 1, 2: 2}
    assert facts.label_names == {1: "front", 2: "back"}
    assert "1 of 3 declared labels are in no usable label file and take no part: 9" in caplog.text


def test_masks_beside_unlabelled_images_are_no_images(build, tmp_path):
    for i in range(4):
        build.save(tmp_path / f"images/a{i}.nii.gz", build.image(i))
        build.save(tmp_path / f"labels/a{i}.nii.gz", build.label())
    for i in range(6):
        build.save(tmp_path / f"images/u{i}.nii.gz", build.image(10 + i))
        mask = build.label()
        mask[i + 1, 2, 2] = 1
        build.save(tmp_path / f"images/u{i}_brainmask.nii.gz", mask)
    result = check(tmp_path, case_names="keep")
    masks = {f"u{i}_brainmask" for i in range(6)}
    assert {c for c, r in reasons(result).items() if r == "mask instead of image"} == masks
    assert not masks & set(result.good["case"])
