"""Each layout lists its cases; what is no layout is told in one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig, SubjectRule
from dreamorph.volumes.files import files_in
from dreamorph.volumes.layouts import read_layout


def listed(path, **kwargs):
    return read_layout(CohortConfig(path=path, **kwargs))


def by_name(layout):
    return {case.case: case for case in layout.cases}


def test_msd_with_description(build, tmp_path):
    root = build.msd(tmp_path, range(1, 4))
    build.save(root / "imagesTs/scan_009.nii.gz", build.image(9))
    build.save(root / "imagesTr/._scan_001.nii.gz", build.image(9))

    layout = listed(root)
    assert layout.facts.layout == "msd"
    assert layout.facts.modality == "MR"
    assert layout.facts.label_names == {1: "front", 2: "back"}
    cases = by_name(layout)
    assert sorted(cases) == ["scan_001", "scan_002", "scan_003", "scan_009"]
    assert cases["scan_001"].label.endswith("labelsTr/scan_001.nii.gz")
    assert cases["scan_001"].label_expected == "yes"
    assert not cases["scan_009"].listed


def test_msd_test_images_are_unlabelled(build, tmp_path):
    def change(description):
        description["test"] = ["./imagesTs/scan_009.nii.gz"]

    build.save(tmp_path / "imagesTs/scan_009.nii.gz", build.image(9))
    case = by_name(listed(build.msd(tmp_path, range(1, 3), change=change)))["scan_009"]
    assert (case.label, case.label_expected, case.listed) == (None, "no", True)


def test_msd_without_description(build, tmp_path):
    root = build.msd(tmp_path, range(1, 4), listed=False)
    (root / "labelsTr/scan_001.nii.gz").unlink()
    (root / "imagesTr/scan_002.nii.gz").unlink()
    layout = listed(root)
    cases = by_name(layout)
    assert layout.facts.layout == "msd"
    assert layout.facts.label_names == {}
    assert cases["scan_001"].label is None
    assert cases["scan_002"].image is None
    assert cases["scan_003"].image is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "expected a JSON object"),
        ('{"training": [{"label": "x"}]}', "expected a path under 'image'"),
        ('{"training": [], "labels": {"front": 1}}', "value -> name"),
    ],
)
def test_msd_bad_description(tmp_path, content, message):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(CohortError, match=message):
        listed(tmp_path)


def nnunet(build, root, description=None):
    for name in ("STS_001", "STS_002"):
        for channel in (0, 1):
            file = root / f"imagesTr/{name}_{channel:04d}.nii.gz"
            build.save(file, build.image(channel))
        build.save(root / f"labelsTr/{name}.nii.gz", build.label())
    build.save(root / "imagesTs/STS_003_0000.nii.gz", build.image(3))
    if description is not None:
        (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_nnunet(build, tmp_path):
    description = {
        "channel_names": {"0": "CT", "1": "T2"},
        "labels": {"background": 0, "tumour": 1, "bone": 2, "ignore": 3},
        "file_ending": ".nii.gz",
    }
    layout = listed(nnunet(build, tmp_path, description))
    assert layout.facts.layout == "nnunet"
    assert layout.facts.modality == "CT"
    assert layout.facts.label_names == {1: "tumour", 2: "bone"}
    cases = by_name(layout)
    assert sorted(cases) == ["STS_001", "STS_002", "STS_003"]
    assert cases["STS_001"].image.endswith("STS_001_0000.nii.gz")
    assert cases["STS_003"].label_expected == "no"
    second = listed(tmp_path, channel=1)
    assert second.facts.modality == "MR"
    assert by_name(second)["STS_001"].image.endswith("STS_001_0001.nii.gz")
    assert by_name(second)["STS_003"].image is None


def test_nnunet_without_description_is_known_by_its_suffix(build, tmp_path):
    assert listed(nnunet(build, tmp_path)).facts.layout == "nnunet"


def test_nnunet_of_version_1(build, tmp_path):
    """Its description is that of an MSD folder, but for files that are named without channel."""
    description = {
        "modality": {"0": "CT", "1": "T2"},
        "labels": {"0": "background", "1": "tumour", "2": "bone"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"}
                     for n in ("STS_001", "STS_002")],
        "test": ["./imagesTs/STS_003.nii.gz"],
    }  # fmt: skip
    layout = listed(nnunet(build, tmp_path, description))
    assert layout.facts.layout == "nnunet"
    assert layout.facts.modality == "CT"
    assert layout.facts.label_names == {1: "tumour", 2: "bone"}
    cases = by_name(layout)
    assert sorted(cases) == ["STS_001", "STS_002", "STS_003"]
    assert all(cases[name].image and cases[name].label for name in ("STS_001", "STS_002"))


@pytest.mark.parametrize("labels", [["tumour"], {"tumour": "one"}])
def test_nnunet_labels_of_another_kind_are_named(build, tmp_path, labels):
    with pytest.raises(CohortError, match="expected 'labels' as name -> value"):
        listed(nnunet(build, tmp_path, {"channel_names": {"0": "CT"}, "labels": labels}))


def test_four_digit_ids_are_no_channels(build, tmp_path):
    for i in (1, 2):
        build.save(tmp_path / f"imagesTr/scan_{i:04d}.nii.gz", build.image(i))
        build.save(tmp_path / f"labelsTr/scan_{i:04d}.nii.gz", build.label())
    layout = listed(tmp_path)
    assert layout.facts.layout == "msd"
    assert all(case.image and case.label for case in layout.cases)


def test_nnunet_of_another_file_ending(tmp_path):
    content = {"channel_names": {"0": "CT"}, "labels": {}, "file_ending": ".nrrd"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(CohortError, match=r"'\.nrrd' is not read"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.nii.gz", "labels/{}.nii.gz"),
        ("images/{}_image.nii", "masks/{}_mask.nii"),
        ("img/{}_0000.nii.gz", "segmentations/{}.nii.gz"),
        ("{}_image.nii.gz", "{}_label.nii.gz"),
        ("{}.nii.gz", "{}_seg.nii.gz"),
        ("{}.nii.gz", "{} Seg.nii.gz"),
        ("{}/image.nii.gz", "{}/label.nii.gz"),
        ("{}/{}_T1.nii.gz", "{}/{}_mask.nii.gz"),
        ("{}/some scan.nii.gz", "{}/gt.nii.gz"),
    ],
)
def test_folder_pairs(build, tmp_path, image, label):
    names = ["scan_2", "scan_10"]
    for i, name in enumerate(names):
        build.save(tmp_path / image.replace("{}", name), build.image(i))
        build.save(tmp_path / label.replace("{}", name), build.label())
    layout = listed(tmp_path)
    assert layout.facts.layout == "folder"
    assert [case.case for case in layout.cases] == names
    for case in layout.cases:
        assert case.image.endswith(image.replace("{}", case.case))
        assert case.label.endswith(label.replace("{}", case.case))


def test_bids(build, tmp_path):
    for name in ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"):
        subject, session = name.split("_")
        build.save(tmp_path / subject / session / "anat" / f"{name}_T1w.nii.gz", build.image(1))
        build.save(
            tmp_path / "derivatives/manual" / subject / f"{name}_desc-organ_dseg.nii.gz",
            build.label(),
        )
    cases = listed(tmp_path).cases
    assert [(case.case, case.subject) for case in cases] == [
        ("sub-01_ses-1", "sub-01"),
        ("sub-01_ses-2", "sub-01"),
        ("sub-02_ses-1", "sub-02"),
    ]
    assert all(case.image and case.label for case in cases)
    ruled = listed(tmp_path, subject=SubjectRule(regex="ses-(.)"))
    assert all(case.subject is None for case in ruled.cases)


def test_one_name_in_two_ways_of_writing_its_letters_is_one_case(build, tmp_path):
    build.save(tmp_path / "Ren\u00e9.nii", build.image(1))
    build.save(tmp_path / "Rene\u0301_seg.nii", build.label())
    (case,) = listed(tmp_path).cases
    assert case.image
    assert case.label


def test_another_scan_of_a_labelled_case_is_of_the_same_subject(build, tmp_path):
    for name in ("a", "a_T2", "ab", "b_1", "b_1-late", "c"):
        build.save(tmp_path / f"{name}.nii", build.image(1))
    for name in ("a", "b_1", "c"):
        build.save(tmp_path / f"{name}_seg.nii", build.label())
    subjects = {case.case: case.subject for case in listed(tmp_path).cases}
    assert subjects == {
        "a": "a", "a_T2": "a", "ab": None, "b_1": "b_1", "b_1-late": "b_1", "c": None,
    }  # fmt: skip
    ruled = listed(tmp_path, subject=SubjectRule(regex="(.)"))
    assert all(case.subject is None for case in ruled.cases)


def test_folder_unlabelled(build, tmp_path):
    build.save(tmp_path / "images/a_1.nii", build.image(1))
    build.save(tmp_path / "labels/a_1.nii", build.label())
    build.save(tmp_path / "images/a_2.nii", build.image(2))
    build.save(tmp_path / "unlabelled/a_3.nii", build.image(3))
    cases = by_name(listed(tmp_path))
    assert [cases[f"a_{i}"].label_expected for i in (1, 2, 3)] == ["open", "open", "no"]


@pytest.mark.parametrize(("suffix", "part"), [("", "images"), ("_0000", "images"), ("", "labels")])
def test_a_case_that_is_there_packed_and_not_is_refused(build, tmp_path, suffix, part):
    """Else one of two volumes, which may differ, would silently win."""
    for i in (1, 2):
        build.save(tmp_path / f"imagesTr/a_{i}{suffix}.nii.gz", build.image(i))
        build.save(tmp_path / f"labelsTr/a_{i}.nii.gz", build.label())
    assert len(listed(tmp_path).cases) == 2
    volume = build.image(3) if part == "images" else build.label()
    build.save(tmp_path / f"{part}Tr/a_2{suffix}.nii", volume)
    with pytest.raises(CohortError, match=r"1 cases are there as \.nii and as \.nii\.gz"):
        listed(tmp_path)


@pytest.mark.parametrize(
    "change", [{"training": 5}, {"test": 3}, {"training": [{"image": "a", "label": 1}]}]
)
def test_a_description_of_other_types_is_refused_in_one_line(build, tmp_path, change):
    root = build.msd(tmp_path, range(1, 4), change=lambda d: d.update(change))
    with pytest.raises(CohortError, match=r"dataset\.json: expected a (list|path) under"):
        listed(root)


def test_a_folder_that_may_not_be_read_is_warned_of(build, tmp_path, caplog, monkeypatch):
    build.save(tmp_path / "images/a_1.nii", build.image(1))
    build.save(tmp_path / "images/Doe_Jane/a_2.nii", build.image(2))
    walk = os.walk

    def shut(folder, **options):
        for place, below, names in walk(folder, **options):
            if Path(place).name == "Doe_Jane":
                options["onerror"](PermissionError(13, "denied", place))
                continue
            yield place, below, names

    monkeypatch.setattr(os, "walk", shut)
    found = list(files_in(tmp_path, recursive=True))
    assert [file.name for file in found] == ["a_1.nii"]
    assert "cannot be read (PermissionError)" in caplog.text
    assert "Doe" not in caplog.text


def test_folder_with_several_images_of_a_case_asks_for_a_manifest(build, tmp_path):
    build.save(tmp_path / "sub-01_T1w.nii", build.image(1))
    build.save(tmp_path / "sub-01_T2w.nii", build.image(2))
    with pytest.raises(CohortError, match="1 cases have more than one image or label; give a CSV"):
        listed(tmp_path)


def npz(path, count=4, shape=(6, 6, 6), **changes):
    content = {}
    for part in ("train", "val", "test"):
        content[f"{part}_images"] = np.zeros((count, *shape), dtype=np.uint8)
        content[f"{part}_labels"] = (np.arange(count) % 2)[:, None]
    content.update(changes)
    np.savez_compressed(path, **{k: v for k, v in content.items() if v is not None})
    return path


def test_medmnist(tmp_path):
    layout = listed(npz(tmp_path / "adrenal.npz"))
    assert layout.facts.layout == "medmnist"
    assert len(layout.cases) == 12
    case = by_name(layout)["val_0001"]
    assert (case.cls, case.split, case.label) == ("1", "unlabelled", None)
    assert case.image.endswith("adrenal.npz::val_images::1")
    in_folder = listed(tmp_path, validation_split="train")
    assert {case.split for case in in_folder.cases} == {"train", "test"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (28, 28)}, "only the 3D sets"),
        ({"shape": (28, 28, 3)}, "only the 3D sets"),
        ({"val_labels": None}, "val_labels is missing"),
        ({"val_labels": np.zeros((4, 14))}, "expected one class for each of 4"),
        ({"val_labels": np.array(["a", "b", "a", "b"])}, "expected whole numbers in val_labels"),
        ({"val_labels": np.array([0, 1, np.nan, 1])}, "expected whole numbers in val_labels"),
    ],
)
def test_medmnist_of_another_kind(tmp_path, changes, message):
    with pytest.raises(CohortError, match=message):
        listed(npz(tmp_path / "a.npz", **changes))


def test_medmnist_that_is_no_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(CohortError, match="not a readable npz"):
        listed(tmp_path / "a.npz")


def manifest(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_manifest_overrides_the_folder(build, tmp_path, delimiter):
    build.msd(tmp_path / "data", range(1, 3))
    text = "\ufeffCase,image,label,subject,class,split,age\n"
    text += "a_1,../data/imagesTr/scan_001.nii.gz,../data/labelsTr/scan_001.nii.gz,p,sick,train,9\n"
    text += f"a_2,{tmp_path}/data/imagesTr/scan_002.nii.gz,,q,,Val,9\n"
    text += "\n"
    text += "a_3,../data/imagesTr/scan_002.nii.gz,missing.nii.gz,r,well,test,9\n"
    file = manifest(tmp_path / "lists/manifest.csv", text.replace(",", delimiter))
    layout = listed(tmp_path / "data", manifest=file)
    assert layout.facts.layout == "manifest"
    first, second, third = layout.cases
    assert (first.case, first.subject, first.cls, first.split) == ("a_1", "p", "sick", "train")
    assert first.image.endswith("scan_001.nii.gz")
    assert (second.cls, second.split, second.label_expected) == (None, "unlabelled", "no")
    assert (third.label, third.label_expected) == (None, "yes")
    assert listed(file).cases == listed(file.parent).cases == layout.cases


def test_paths_of_a_manifest_may_have_been_written_on_windows(tmp_path):
    scan = tmp_path / "imagesTr" / "scan.nii.gz"
    scan.parent.mkdir()
    scan.touch()
    text = "case,image\na,imagesTr\\scan.nii.gz\nb,~\\scan.nii.gz\n"
    file = manifest(tmp_path / "manifest.csv", text)
    assert [case.image for case in listed(file).cases] == [str(scan), None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("case,label\na,b\n", "image is missing"),
        ("case,image\n,b.nii\n", "line 2: the column case is empty"),
        ("case,image,split\na,b,train\nc,d,\n", "filled in 1 of 2 rows"),
        ("case,image,split\na,b,dev\n", "line 2: expected split train, unlabelled, test"),
        ("case,image\n", "holds no volume"),
        ("case,image,subject\na,b,p\nc,d,\n", "column subject is filled in 1 of 2 rows"),
        ("case,image,subjct\na,b,p\n", "a column 'subjct', did you mean 'subject'"),
        ("case,image,splt\na,b,test\n", "did you mean 'split'"),
        ("case,image,class\na,b,Nein\nc,d,nein\n", "'Nein' and 'nein' differ in capitals only"),
        ("case,image,labels\na,b,c\n", "did you mean 'label'"),
        ("case,image,subject\na,b,Doe, Jim\n", "line 2: more cells than columns"),
        ('case,image\na,"b.nii\nc,d.nii\n', "expected every quote to be closed"),
    ],
)
def test_bad_manifest(tmp_path, text, message):
    with pytest.raises(CohortError, match=message):
        listed(manifest(tmp_path / "manifest.csv", text))


def test_manifests_of_spreadsheets(build, tmp_path):
    build.save(tmp_path / "a.nii", build.image(1))
    (case,) = listed(manifest(tmp_path / "manifest.csv", "sep=;\ncase;image\na;a.nii\n")).cases
    assert case.image.endswith("a.nii")
    (tmp_path / "manifest.csv").write_bytes("case,image\nMüller,a.nii\n".encode("latin-1"))
    with pytest.raises(CohortError, match="save it as 'CSV UTF-8'"):
        listed(tmp_path / "manifest.csv")


def test_a_number_at_the_end_may_be_the_cases_own(build, tmp_path):
    """case_0000 beside a label of that name is a case; beside a label `case` it is a channel."""
    for i in range(4):
        build.save(tmp_path / f"own/images/case_{i:04d}.nii.gz", build.image(i))
        build.save(tmp_path / f"own/labels/case_{i:04d}.nii.gz", build.label())
        build.save(tmp_path / f"channel/images/case{i}_0000.nii.gz", build.image(i))
        build.save(tmp_path / f"channel/labels/case{i}.nii.gz", build.label())
    for name in ("own", "channel"):
        cases = listed(tmp_path / name, layout="folder").cases
        assert [bool(case.image and case.label) for case in cases] == [True] * 4


def test_folders_that_are_links_are_looked_into(build, tmp_path):
    for i in range(2):
        build.save(tmp_path / f"store/p{i}/image.nii.gz", build.image(i))
        build.save(tmp_path / f"store/p{i}/label.nii.gz", build.label())
    (tmp_path / "cohort").mkdir()
    for i in range(2):
        (tmp_path / f"cohort/p{i}").symlink_to(tmp_path / f"store/p{i}")
    (tmp_path / "cohort/round").symlink_to(tmp_path / "cohort")  # must not go on for ever
    (tmp_path / "cohort/up").symlink_to(tmp_path)  # nor to what is no part of the cohort
    build.save(tmp_path / "other/image.nii.gz", build.image(9))
    os.mkfifo(tmp_path / "cohort/pipe")
    cases = listed(tmp_path / "cohort").cases
    assert [(case.case, bool(case.label)) for case in cases] == [("p0", True), ("p1", True)]


def test_a_relative_path_means_the_same_from_elsewhere(build, tmp_path, monkeypatch):
    root = build.msd(tmp_path / "a", range(1, 3))
    (tmp_path / "a/manifest.csv").write_text("case,image\nx,imagesTr/scan_001.nii.gz\n")
    monkeypatch.chdir(tmp_path)
    for config in (CohortConfig(path="a", layout="msd"), CohortConfig(manifest="a/manifest.csv")):
        (case, *_) = read_layout(config).cases
        assert case.image == str(root / "imagesTr/scan_001.nii.gz")


def test_a_description_of_its_own_makes_no_decathlon(build, tmp_path):
    (tmp_path / "dataset.json").write_text('{"name": "ours"}')
    build.save(tmp_path / "images/a.nii.gz", build.image(1))
    build.save(tmp_path / "labels/a.nii.gz", build.label())
    layout = listed(tmp_path)
    assert layout.facts.layout == "folder"
    assert [bool(case.label) for case in layout.cases] == [True]


def test_what_is_no_cohort(tmp_path):
    with pytest.raises(CohortError, match="does not exist"):
        listed(tmp_path / "nowhere")
    with pytest.raises(CohortError, match="is an empty folder; recognised layouts are manifest: "):
        listed(tmp_path)
    (tmp_path / "slice.dcm").write_bytes(b"")
    with pytest.raises(CohortError, match="do not bear DICOM's mark"):
        listed(tmp_path)
    with pytest.raises(CohortError, match="a file of unknown kind"):
        listed(tmp_path / "slice.dcm")
    with pytest.raises(CohortError, match=r"cohort\.path is not set"):
        read_layout(CohortConfig())
    with pytest.raises(CohortError, match="read as 'msd', holds no volume"):
        listed(tmp_path, layout="msd")


def test_msd_cases_numbered_as_channels_are_no_nnunet(build, tmp_path):
    """Their description lists images that are there."""
    entries = []
    for i in range(3):
        build.save(tmp_path / f"imagesTr/img_{i:04d}.nii.gz", build.image(i))
        build.save(tmp_path / f"labelsTr/label_{i:04d}.nii.gz", build.label())
        entries.append(
            {"image": f"imagesTr/img_{i:04d}.nii.gz", "label": f"labelsTr/label_{i:04d}.nii.gz"}
        )
    description = {"modality": {"0": "CT"}, "labels": {"1": "organ"}, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    layout = listed(tmp_path)
    assert layout.facts.layout == "msd"
    assert sum(bool(case.image and case.label) for case in layout.cases) == 3
