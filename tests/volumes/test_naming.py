"""A name is published only if it is plainly a study code."""

import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.naming import are_study_codes, published, published_names
from dreamorph.volumes.records import CaseFiles, frame
from dreamorph.volumes.scan import scan


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["hippocampus_025", "hippocampus_026"], False),
        (["STS_001", "STS_050"], False),
        (["Mueller_1", "Mueller_2"], False),
        (["sub-Mueller1", "sub-Mueller2"], False),
        (["patient_1", "patient_2"], True),
        (["sim_001", "sim_002"], True),
        (["sub-01", "sub-02"], True),
        (["sub-01_ses-1", "sub-01_ses-2"], True),
        (["case1", "case12"], True),
        (["left-scan-1", "left-scan-2"], True),
        (["Doe_001", "Smith_002"], False),
        (["scan_19810304", "scan_19770911"], False),
        (["Doe_John", "Doe_Jane"], False),
        (["001", "002"], False),
        (["scan_1", "scan_2 Doe"], False),
        (["Doe_1"], False),
    ],
)
def test_study_codes(names, expected):
    assert are_study_codes(names) is expected


@pytest.mark.parametrize(
    ("prefix", "data_set", "expected"),
    [
        ("hippocampus_", "Hippocampus Task04_Hippocampus", True),
        ("hippocampus_", " hippocampus_dirty", True),
        ("STS_", " Dataset040_STS_CT", True),
        ("BRATS_", "BRATS Task01_BrainTumour", True),
        ("BraTS2021_", "BraTS2021", False),
        ("hepaticvessel_", " Task08_HepaticVessel", True),
        ("left-lung-", "Lung", True),
        ("Ott_", "Cottage", False),
        ("Mueller_", "Hippocampus Task04_Hippocampus", False),
        ("lung_Mueller_", "Lung", False),
    ],
)
def test_a_data_sets_own_name_is_no_persons(prefix, data_set, expected):
    assert are_study_codes([f"{prefix}001", f"{prefix}002"], data_set) is expected


@pytest.mark.parametrize(
    ("folder", "prefix", "kept"),
    [("Task04_Hippocampus", "hippocampus", True), ("Task04_Hippocampus", "Mueller", False)],
)
def test_names_of_a_prepared_data_set(build, tmp_path, folder, prefix, kept):
    for number in (1, 2):
        for part in ("imagesTr", "labelsTr"):
            build.save(tmp_path / folder / part / f"{prefix}_00{number}.nii.gz", build.label())
    found = scan(CohortConfig(path=tmp_path / folder)).cases["case"]
    assert all(name.startswith(f"{prefix}_") for name in found) is kept


def test_a_plain_folder_may_be_called_after_whom_it_shows(build, tmp_path):
    for number in (1, 2):
        build.save(tmp_path / "Mueller" / f"Mueller_{number}.nii.gz", build.image(number))
    found = scan(CohortConfig(path=tmp_path / "Mueller")).cases
    assert not found[["case", "subject"]].map(lambda name: "Mueller" in name).to_numpy().any()


def make(tmp_path, names, content=None):
    cases = []
    for i, name in enumerate(names):
        file = tmp_path / f"{name}.nii"
        file.write_bytes(content or f"scan {i}".encode())
        cases.append(CaseFiles(name, None, str(file), None))
    return cases


def test_patient_names_never_leave(tmp_path):
    patients = ["Doe_John", "Roe_Jane"]
    names, subjects = published_names(make(tmp_path, patients), patients, "auto")
    # the first eight digits of SHA-256 of b"scan 0" and b"scan 1"
    assert names == ["case-9c60a901", "case-9c41e811"]
    assert subjects == [name.replace("case", "subject") for name in names]
    assert not any(p in str((names, subjects)) for p in ("Doe", "John", "Roe", "Jane"))


def test_a_pseudonym_follows_the_content_not_the_file_name(tmp_path):
    (tmp_path / "x").mkdir()
    first, _ = published_names(make(tmp_path, ["Doe_John", "B"]), ["a", "b"], "pseudonym")
    other, _ = published_names(make(tmp_path / "x", ["C", "D"]), ["a", "b"], "pseudonym")
    assert first == other


def test_codes_stay_but_subject_names_do_not(tmp_path):
    cases = make(tmp_path, ["scan_1", "scan_2", "scan_3"])
    names, subjects = published_names(cases, ["Doe", "Doe", "Roe"], "auto")
    assert names == ["scan_1", "scan_2", "scan_3"]
    assert subjects[0] == subjects[1] != subjects[2]
    assert all(subject.startswith("subject-") and len(subject) == 16 for subject in subjects)
    assert published_names(cases, ["4", "4", "5"], "auto")[1] == [
        "subject-4",
        "subject-4",
        "subject-5",
    ]


def test_keep_is_the_users_word(tmp_path):
    names, subjects = published_names(make(tmp_path, ["Doe 1", "007"]), ["x", "12345"], "keep")
    assert names == ["Doe_1", "case-007"]
    assert subjects == ["x", "subject-12345"]


def test_equal_or_missing_content_still_gives_distinct_names(tmp_path):
    cases = make(tmp_path, ["A", "B"], content=b"same")
    cases += [CaseFiles("C", None, None, None), CaseFiles("D", None, str(tmp_path / "no"), None)]
    names, _ = published_names(cases, ["A", "B", "C", "D"], "auto")
    assert len(set(names)) == 4
    assert names[1] == names[0] + "-2"
    assert names[2:] == ["case-missing-3", "case-missing-4"]


def test_repeated_names_stop(tmp_path):
    with pytest.raises(CohortError, match="1 names of 2 cases occur more than once"):
        published_names(make(tmp_path, ["a", "a"]), ["a", "a"], "auto")


def test_published_tables_hold_no_paths():
    table = frame([{"case": "a", "image": "/x/Doe.nii", "label": None}], ("case", "image", "label"))
    assert list(published(table).columns) == ["case"]


def test_kept_names_stay_apart(tmp_path):
    """Letters that cannot be kept are replaced; other people stay other people."""
    originals = ["Müller", "Möller", "李", "王", "x" * 90 + "1", "x" * 90 + "2", "plain"]
    cases = [CaseFiles(name, None, None, None) for name in originals]
    names, subjects = published_names(cases, originals, "keep")
    assert len(set(names)) == len(set(subjects)) == len(originals)
    assert all(len(name) < 80 and name.isascii() for name in names)
    assert names[-1] == "plain"
    sessions = [CaseFiles(name, None, None, None) for name in ("a", "b", "c")]
    _, subjects = published_names(sessions, ["Müller", "Möller", "Müller"], "keep")
    assert subjects[0] == subjects[2] != subjects[1]
