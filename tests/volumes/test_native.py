"""Back to the original geometry, and to the disk."""

import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from dreamorph.errors import CohortError, DreamorphError, StaleError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.ingest import load_cohort
from dreamorph.volumes.native import (
    label_content,
    native_channels,
    native_labels,
    read_label,
    save_nifti,
)
from dreamorph.volumes.scan import scan
from dreamorph.volumes.validation import validate

KINDS = ["RAS", "LAS", "LPS", "SRA", "oblique"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_ramp_comes_back_exactly(build, kind):
    affine = build.affine_of("oblique", (1.5, 1.5, 1.5))
    native = build.affine_of(kind, (0.7, 0.9, 2.0))
    shape, native_shape = (24, 24, 24), (9, 8, 5)
    # put the native box into the middle of the grid
    middle = affine[:3, :3] @ np.full(3, 11.5) + affine[:3, 3]
    native[:3, 3] = middle - native[:3, :3] @ ((np.array(native_shape) - 1) / 2)
    weights = np.array([[1.0, -2, 0.5], [0, 1, 3]])
    volume = np.einsum("ci,idhw->cdhw", weights, build.world_of(affine, shape))
    expected = np.einsum("ci,idhw->cdhw", weights, build.world_of(native, native_shape))
    channels = native_channels(volume.astype(np.float32), affine, native_shape, native)
    found = np.stack([values.copy() for values in channels])
    assert found.shape == (2, *native_shape)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_makes_the_round_trip(build, tmp_path, kind):
    shape = (13, 12, 9)
    affine = build.affine_of(kind, (1.0, 1.0, 2.0))
    for i in range(2):
        build.save(tmp_path / f"images/scan_{i}.nii.gz", build.image(i, shape), affine)
        build.save(tmp_path / f"labels/scan_{i}.nii.gz", build.label(shape) * 7, affine)
    cohort = load_cohort(CohortConfig(path=tmp_path))
    checked = validate(scan(CohortConfig(path=tmp_path)), CohortConfig()).good
    noted = dict(zip(checked["label"], checked["label_content"], strict=True))
    address = str(tmp_path / "labels/scan_0.nii.gz")
    label, native = read_label(address, {7: 1, 14: 2}, noted[address])
    np.testing.assert_array_equal(label, build.label(shape))
    one_hot = np.stack([(cohort.labels[0, 0].numpy() == v) for v in range(3)]).astype(np.float32)
    geometry = cohort.affines[0], label.shape, native
    back = np.stack([values.copy() for values in native_channels(one_hot, *geometry)])
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(native_labels(one_hot, *geometry), label)


def test_labels_at_native_size_are_an_argmax_though_no_two_channels_are_in_memory(build):
    probabilities = np.random.default_rng(0).random((26, 6, 7, 5)).astype(np.float32)
    probabilities[3] = probabilities[9]  # of equals the first one counts
    affine, native = build.affine_of("RAS", (2.0, 2.0, 2.0)), build.affine_of("LPS", (0.9, 1, 1))
    geometry = affine, (11, 12, 9), native
    channels = np.stack([values.copy() for values in native_channels(probabilities, *geometry)])
    found = native_labels(probabilities, *geometry)
    np.testing.assert_array_equal(found, channels.argmax(axis=0))
    assert found.dtype == np.uint8
    tracemalloc.start()
    native_labels(np.concatenate([probabilities] * 9), affine, (40, 40, 40), native)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 40**3  # all 234 channels would take 936 bytes a voxel


def test_volumes_at_native_size_want_channels():
    with pytest.raises(CohortError, match=r"expected a volume \(C, D, H, W\)"):
        next(native_channels(np.zeros((4, 4, 4)), np.eye(4), (4, 4, 4), np.eye(4)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_saved_volume_opens_at_the_right_place(build, tmp_path, kind, name):
    affine = build.affine_of(kind, (0.5, 1.0, 2.0))
    voxels = build.image(0)
    save_nifti(tmp_path / "deep" / name, voxels, affine)
    loaded = nib.load(tmp_path / "deep" / name)
    np.testing.assert_array_equal(loaded.get_fdata(dtype=np.float32), voxels)
    for found, code in (loaded.get_sform(coded=True), loaded.get_qform(coded=True)):
        np.testing.assert_allclose(found, affine, atol=1e-4)
        assert code == 2
    header = loaded.header
    assert header.get_xyzt_units() == ("mm", "unknown")
    for text in ("descrip", "aux_file", "intent_name", "db_name"):
        assert bytes(header[text].item()).strip(b"\0") == b""
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


@pytest.mark.parametrize(
    ("given", "stored"),
    [("bool", "uint8"), ("float64", "float32"), ("int64", "int32"), ("uint8", "uint8")],
)
def test_types_that_viewers_open(tmp_path, given, stored):
    save_nifti(tmp_path / "a.nii.gz", np.eye(4).reshape(4, 2, 2).astype(given), np.eye(4))
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == np.dtype(stored)


def test_equal_volumes_give_equal_files(build, tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        save_nifti(tmp_path / name, build.image(0), np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(build, tmp_path, monkeypatch):
    target = tmp_path / "a.nii.gz"
    save_nifti(target, build.image(0), np.eye(4))
    before = target.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DreamorphError, match=r"a\.nii\.gz cannot be written .*No space left"):
        save_nifti(target, build.image(1), np.eye(4))
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_folder_that_is_a_file(build, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DreamorphError, match="cannot be written"):
        save_nifti(tmp_path / "file" / "a.nii", build.image(0), np.eye(4))


def test_a_label_file_that_has_changed_since_it_was_read_is_noticed(build, tmp_path):
    path, affine = tmp_path / "label.nii.gz", build.affine_of("RAS", (1.0, 1.0, 1.0))
    build.save(path, build.label(), affine)
    voxels, stored = read_label(str(path), {1: 1, 2: 2})
    content = label_content(voxels, stored)
    read_label(str(path), {1: 1, 2: 2}, content)
    changed = build.label()
    changed[0, 0, 0] = 2
    for label, place in ((changed, affine), (build.label(), affine + np.eye(4))):
        build.save(path, label, place)
        with pytest.raises(StaleError, match="has changed since it was read: run all steps"):
            read_label(str(path), {1: 1, 2: 2}, content)
