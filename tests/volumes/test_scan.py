"""Subjects, classes and names of the scanned cases."""

import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig, SubjectRule
from dreamorph.volumes.scan import scan

PAIRS = SubjectRule(regex=r"_(\d+)$", cases_per_subject=2)


def test_two_sides_of_one_scan_are_one_subject(build, tmp_path):
    result = scan(CohortConfig(path=build.msd(tmp_path, range(1, 6)), subject=PAIRS))
    subjects = dict(zip(result.cases["case"], result.cases["subject"], strict=True))
    assert subjects == {
        "scan_001": "subject-1",
        "scan_002": "subject-1",
        "scan_003": "subject-2",
        "scan_004": "subject-2",
        "scan_005": "subject-3",
    }


def test_a_rule_must_fit_all_names(build, tmp_path):
    build.msd(tmp_path, range(1, 4))
    build.save(tmp_path / "imagesTs/other.nii.gz", build.image(9))
    with pytest.raises(CohortError, match="finds a number in 3 of 4 case names"):
        scan(CohortConfig(path=tmp_path, subject=PAIRS))


def test_a_subject_that_is_found_empty_is_none(build, tmp_path):
    """Else every case would count as a subject of its own, without a word."""
    for visit in (0, 1):
        build.save(tmp_path / f"images/pat_02_v{visit}.nii", build.image(visit))
        build.save(tmp_path / f"labels/pat_02_v{visit}.nii", build.label())
    with pytest.raises(CohortError, match="finds a subject in 0 of 2 case names"):
        scan(CohortConfig(path=tmp_path, subject=SubjectRule(regex=r"(\d*)")))


def test_pairs_numbered_from_0_are_refused(build, tmp_path):
    with pytest.raises(CohortError, match="counts from 1, but a case has the number 0"):
        scan(CohortConfig(path=build.msd(tmp_path, range(4)), subject=PAIRS))


@pytest.mark.parametrize(
    ("one", "other"),
    [("P01", "p01"), ("P 03", "P  03"), ("7", "007"), ("7", "7.0"), ("é", "e\u0301")],
)
def test_two_spellings_of_a_subject_are_refused(build, tmp_path, one, other):
    """They would be two subjects: one to learn from, the other to test on."""

    def cohort(*subjects: str):
        rows = [f"case_{i},{subject},a.nii" for i, subject in enumerate(subjects)]
        (tmp_path / "manifest.csv").write_text("\n".join(["case,subject,image", *rows]), "utf-8")
        return scan(CohortConfig(path=tmp_path))

    assert cohort(one, one, "P02", "12", "2").cases["subject"].nunique() == 4
    with pytest.raises(CohortError, match="1 subjects are spelt in more than one way") as error:
        cohort(one, other, "P02")
    assert one not in str(error.value).replace("1 subjects", "")


def test_a_list_beside_the_volumes_is_pointed_out(build, tmp_path, caplog):
    build.msd(tmp_path, range(1, 4))
    (tmp_path / "Doe_Jane.csv").write_text("case,image\na,b\n")
    scan(CohortConfig(path=tmp_path))
    assert "holds 1 CSV files that are not read" in caplog.text
    assert "Doe" not in caplog.text


def test_a_missing_rule_is_warned_of(build, tmp_path, caplog):
    scan(CohortConfig(path=build.msd(tmp_path, range(1, 4))))
    assert "counts as a subject of its own" in caplog.text


@pytest.mark.parametrize("layout", ["msd", "nnunet", "manifest"])
def test_sessions_of_a_bids_subject_are_one_subject_in_every_layout(
    build, tmp_path, caplog, layout
):
    names = [f"sub-0{person}_ses-{session}" for person in (1, 2) for session in (1, 2)]
    rows = ["case,image,label"]
    for i, name in enumerate(names):
        image = f"imagesTr/{name}{'_0000' if layout == 'nnunet' else ''}.nii.gz"
        build.save(tmp_path / image, build.image(i))
        build.save(tmp_path / f"labelsTr/{name}.nii.gz", build.label())
        rows.append(f"{name},{image},labelsTr/{name}.nii.gz")
    if layout == "manifest":
        (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = scan(CohortConfig(path=tmp_path))
    assert found.facts.layout == layout
    assert found.cases["subject"].nunique() == 2
    assert found.cases.groupby("subject").size().tolist() == [2, 2]
    assert "counts as a subject of its own" not in caplog.text


def test_patient_names_stay_in_the_key_table(build, tmp_path):
    for i, name in enumerate(("Doe_John", "Roe_Jane", "Poe_Jim")):
        build.save(tmp_path / f"{name}_image.nii.gz", build.image(i))
        build.save(tmp_path / f"{name}_label.nii.gz", build.label())
    result = scan(CohortConfig(path=tmp_path))
    names = result.cases["case"].tolist()
    assert all(name.startswith("case-") for name in names)
    assert result.keys["case"].tolist() == names
    assert result.keys["name"].tolist() == ["Doe_John", "Poe_Jim", "Roe_Jane"]
    assert result.keys["image"].str.endswith("_image.nii.gz").all()


def test_classes(build, tmp_path):
    lines = ["case,image,class"]
    for i in (1, 2):
        build.save(tmp_path / f"a_{i}.nii", build.image(i))
        lines.append(f"a_{i},a_{i}.nii,{i}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    assert scan(CohortConfig(path=tmp_path)).cases["class"].tolist() == ["class_1", "class_2"]
    names = {"1": "well", "2": "sick"}
    named = scan(CohortConfig(path=tmp_path, class_names=names))
    assert named.cases["class"].tolist() == ["well", "sick"]
    with pytest.raises(CohortError, match="the cohort has the class '2'"):
        scan(CohortConfig(path=tmp_path, class_names={"1": "well"}))
