"""What is true of the real data sets, read in place."""

import shutil

import numpy as np
import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes import io
from dreamorph.volumes.config import CohortConfig, SplitConfig, SubjectRule
from dreamorph.volumes.ingest import load_cohort
from dreamorph.volumes.native import native_labels, read_label
from dreamorph.volumes.records import rows
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import assign_splits
from dreamorph.volumes.validation import validate

pytestmark = pytest.mark.realdata

SIDES = SubjectRule(regex=r"_(\d+)$", cases_per_subject=2)


def test_hippocampus(real_data):
    config = CohortConfig(path=real_data / "Task04_Hippocampus", subject=SIDES)
    found = scan(config)
    subjects = dict(zip(found.cases["case"], found.cases["subject"], strict=True))
    assert len(subjects) == 101
    for case, subject in subjects.items():
        assert subject == f"subject-{-(-int(case[-3:]) // 2)}"
    checked = validate(found, config)
    assert checked.quarantine.empty
    assert checked.facts.label_names == {1: "Anterior", 2: "Posterior"}
    split = SplitConfig(train_subjects=5, unlabelled_subjects=30)
    table = assign_splits(checked.good, split)
    assert table.groupby("split")["subject"].nunique().to_dict() == {
        "test": 29,
        "train": 5,
        "unlabelled": 30,
    }
    cohort = load_cohort(config, split)
    assert cohort.modality == "MR"
    assert cohort.shape == (48, 64, 48)
    assert cohort.spacing_mm == (1.0, 1.0, 1.0)
    for image, mask in zip(cohort.images.numpy(), cohort.masks.numpy(), strict=True):
        assert image[mask].mean() == pytest.approx(0, abs=1e-4)
        assert image[mask].std() == pytest.approx(1, abs=1e-3)
        assert np.abs(image).max() < 12
    for i in cohort.indices("test")[:5]:
        path = table.loc[table["case"] == cohort.cases[i], "label"].item()
        native, affine = read_label(path, checked.facts.label_values)
        one_hot = np.stack([cohort.labels[i, 0].numpy() == v for v in range(3)])
        back = native_labels(one_hot, cohort.affines[i], native.shape, affine)
        np.testing.assert_array_equal(back, native)


def test_ct(real_data):
    config = CohortConfig(path=real_data / "Dataset040_STS_CT")
    cohort = load_cohort(config)
    assert len(cohort) == 24
    assert cohort.cases[0] == "STS_001"
    assert cohort.modality == "CT"
    assert cohort.label_names == {1: "tumour", 2: "bone"}
    np.testing.assert_allclose(cohort.spacing_mm, 4.0)
    assert cohort.images.min() == 0
    assert cohort.images.max() == 1
    low, high = config.ct_window_hu
    for image, label in zip(cohort.images.numpy(), cohort.labels.numpy(), strict=True):
        hounsfield = image * (high - low) + low
        # label 2 is bone, roughly by a threshold of 180 HU; the tumour is soft tissue
        assert np.percentile(hounsfield[label == 2], 2) > 179
        if (label == 1).any():
            assert -150 < np.median(hounsfield[label == 1]) < 150


def test_adrenal(real_data):
    config = CohortConfig(path=real_data / "adrenalmnist3d_64.npz")
    found = scan(config)
    assert found.cases["split"].value_counts().to_dict() == {
        "train": 1188,
        "test": 298,
        "unlabelled": 98,
    }
    # one part is enough for the voxels, and spares the time of the rest
    checked = validate(
        type(found)(found.cases[found.cases["split"] == "unlabelled"], found.facts, found.keys),
        config,
    )
    assert checked.quarantine.empty
    assert checked.facts.modality == "shape"
    assert checked.facts.class_names == ["class_0", "class_1"]


def test_dirty(real_data):
    config = CohortConfig(path=real_data / "hippocampus_dirty", subject=SIDES)
    checked = validate(scan(config), config)
    assert {row["case"]: row["reason"] for row in rows(checked.quarantine)} == {
        "hippocampus_118": "image without label",
        "hippocampus_010": "label without image",
        "hippocampus_281": "label without image; foreign geometry",
    }
    with pytest.raises(CohortError, match="2 label without image, 1 image without label"):
        load_cohort(config)


def test_dirty_files_among_good_ones(real_data, tmp_path):
    root = tmp_path / "hippocampus"
    for folder in ("imagesTr", "labelsTr"):
        source = real_data / "Task04_Hippocampus" / folder
        (root / folder).mkdir(parents=True)
        for file in sorted(source.glob("*.nii.gz"))[:8]:
            shutil.copy(file, root / folder)
        for file in (real_data / "hippocampus_dirty" / folder).glob("*.nii.gz"):
            shutil.copy(file, root / folder)
    config = CohortConfig(path=root, subject=SIDES)
    checked = validate(scan(config), config)
    assert sorted(checked.quarantine["case"]) == [
        "hippocampus_010",
        "hippocampus_118",
        "hippocampus_281",
    ]
    assert len(checked.good) == 8
    used = load_cohort(CohortConfig(path=root, subject=SIDES, image_without_label="unlabelled"))
    assert used.table.loc[used.table["case"] == "hippocampus_118", "split"].item() == "unlabelled"


def test_contours_of_one_tumour_on_ct_and_mr(real_data):
    """They were drawn on the MR and moved to the CT: the same volume."""
    volumes = []
    for modality in ("CT", "MR"):
        config = CohortConfig(
            path=real_data / "dicom/STS_003", modality=modality, structures={"mass": "GTV_Mass.*"}
        )
        found = validate(scan(config), config)
        assert found.quarantine.empty
        assert found.facts.modality == modality
        assert found.facts.label_names == {1: "mass"}
        label, affine = read_label(found.good["label"].item(), found.facts.label_values)
        volumes.append(label.sum() * abs(np.linalg.det(affine[:3, :3])))
        if modality == "CT":
            voxels = io.read_voxels(found.good["image"].item())
            assert -100 < np.median(voxels[label > 0]) < 100  # soft tissue, in HU
            assert voxels.min() == -1000
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)
    assert volumes[0] == pytest.approx(80_000, rel=0.01)  # mm^3


def test_series_with_patients_names(real_data, caplog):
    config = CohortConfig(path=real_data / "dicom/hippocampus_crop")
    with caplog.at_level("DEBUG"):
        found = validate(scan(config), config)
    assert found.good["shape"].to_list() == ["35x51x32", "36x48x35", "34x50x40"]
    public = found.good[["case", "subject"]].to_csv() + found.quarantine.to_csv() + caplog.text
    for name in ("Avasarala", "Dumbledore", "Thanos", "PGBM"):
        assert name not in public


def test_a_segmentation_of_three_slices(real_data):
    """Too thin for a volume of the cohort; the SEG is read all the same."""
    config = CohortConfig(path=real_data / "dicom/ct_3slice_seg", structures={"liver": "liver"})
    files = scan(config)
    assert validate(files, config).quarantine["reason"].to_list() == ["foreign geometry"]
    liver = io.read_voxels(files.cases["label"].item())
    image = io.read_voxels(files.cases["image"].item())
    assert liver.shape == image.shape == (3, 512, 512)
    assert 0 < np.median(image[liver == 1]) < 150  # HU of liver
