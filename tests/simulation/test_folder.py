import csv
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import psutil
import pytest

from dreamorph.errors import CohortError
from dreamorph.simulation import (
    MANIFEST_FILE,
    TRUTH_FILE,
    SimulationConfig,
    Truth,
    is_written,
    write_cohort,
)
from dreamorph.simulation import folder as folder_module


@pytest.fixture
def small(cohort):
    """One volume of each split."""
    return replace(cohort, volumes=tuple(cohort.volumes[i] for i in (0, 4, 6)))


def test_manifest_and_volumes(small, tmp_path):
    manifest = write_cohort(small, tmp_path / "sim")
    assert manifest == tmp_path / "sim" / MANIFEST_FILE
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["case", "subject", "image", "label", "class", "split"]
    assert [row["split"] for row in rows] == ["train", "unlabelled", "test"]
    assert [bool(row["label"]) for row in rows] == [True, False, True]
    for row, volume in zip(rows, small.volumes, strict=True):
        image = nib.load(manifest.parent / row["image"])
        assert np.array_equal(np.asarray(image.dataobj), volume.image)
        assert np.allclose(image.affine, volume.affine)
        assert image.header["descrip"].item() == b"simulated"
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        if row["label"]:
            label = nib.load(manifest.parent / row["label"])
            assert np.array_equal(np.asarray(label.dataobj), volume.label)
    assert len(list((manifest.parent / "labels").iterdir())) == 2


def test_the_truth_survives(small, tmp_path):
    write_cohort(small, tmp_path / "sim")
    loaded = Truth.load(tmp_path / "sim" / TRUTH_FILE)
    for name, value in vars(small.truth).items():
        other = getattr(loaded, name)
        assert (value == other).all() if hasattr(value, "all") else value == other


def test_the_same_cohort_gives_the_same_bytes(small, tmp_path):
    write_cohort(small, tmp_path / "a")
    write_cohort(small, tmp_path / "b")
    first = {p.relative_to(tmp_path / "a"): p for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert len(first) == 8
    for name, path in first.items():
        assert path.read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_written_folders_are_recognised_and_replaced(small, tmp_path):
    folder = tmp_path / "sim"
    assert not is_written(small.config, folder)
    write_cohort(small, folder)
    assert is_written(small.config, folder)
    assert not is_written(SimulationConfig(seed=99), folder)
    write_cohort(small, folder)
    assert [p.name for p in tmp_path.iterdir()] == ["sim"]


def test_foreign_folders_are_left_alone(small, tmp_path):
    (tmp_path / "scan.nii").write_text("precious")
    with pytest.raises(CohortError, match="no simulation"):
        write_cohort(small, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii"]


def test_a_failed_write_leaves_nothing(small, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "_write_nifti", full)
    with pytest.raises(CohortError, match="No space left"):
        write_cohort(small, tmp_path / "sim")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed(small, tmp_path):
    nobody = max(psutil.pids()) + 100_000_000
    dead = tmp_path / f".tmp-{nobody}-01234567-sim"
    alive = tmp_path / f".tmp-{os.getpid()}-01234567-sim"
    for left in (dead, alive):
        (left / "images").mkdir(parents=True)
    write_cohort(small, tmp_path / "sim")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, "sim"])


def test_a_damaged_truth_is_named(tmp_path):
    path = tmp_path / TRUTH_FILE
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(CohortError, match=r"truth\.npz"):
        Truth.load(path)
    with pytest.raises(CohortError, match=r"truth\.npz"):
        Truth.load(tmp_path / "absent" / TRUTH_FILE)


def test_unknown_cases_are_named(cohort):
    with pytest.raises(CohortError, match="hippocampus_001"):
        cohort.truth.rows(["sim_001", "hippocampus_001"])
