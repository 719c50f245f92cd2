"""Back to the original geometry, and to the disk."""

import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from dreamorph.errors import CohortError, DreamorphError, StaleError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.ingest import load_cohort
from dreamorph.volumes.native import (
    label_content,
    native_labels,
    read_label,
    save_nifti,
)
from dreamorph.volumes.scan import scan
from dreamorph.volumes.validation import validate

KINDS = ["RAS", "LAS", "LPS", "SRA", "oblique"]


def everywhere(volume, affine, shape, native):
    """All channels (C, D, H, W) at all native voxels: trilinear, at the edge the nearest value."""
    step = np.linalg.inv(affine) @ native
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    points = np.moveaxis(index @ step[:3, :3].T + step[:3, 3], -1, 0)
    found = [map_coordinates(one, points, order=1, mode="nearest") for one in volume]
    return np.stack(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(9, 8, 5), (40, 30, 12)])
def test_labels_at_native_size_are_the_most_probable_ones_everywhere(build, kind, shape):
    """Within the grid and beyond it, of small structures and of some at the grid's edge."""
    generator = np.random.default_rng(len(kind))
    affine, native = build.affine_of("oblique", (1.5, 2.0, 1.5)), build.affine_of(kind, (0.7, 1, 2))
    middle = affine[:3, :3] @ [11.5, 9.5, 7.5] + affine[:3, 3]
    native[:3, 3] = middle - native[:3, :3] @ ((np.array(shape) - 1) / 2)
    probabilities = 0.01 * generator.random((7, 24, 20, 16)).astype(np.float32)
    probabilities[0] += 0.5
    for label in range(1, 6):
        low = generator.integers(0, [18, 14, 10])
        low[label % 3] = 0 if label % 2 else low[label % 3]
        part = tuple(slice(start, start + 6) for start in low)
        probabilities[(label, *part)] += generator.random((6, 6, 6)).astype(np.float32) * 2
    probabilities[6] = probabilities[2]  # of equals the first one counts
    found = native_labels(probabilities, affine, shape, native)
    truth = everywhere(probabilities, affine, shape, native)
    np.testing.assert_array_equal(found, truth.argmax(axis=0))
    assert len(np.unique(found)) > 1


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
    np.testing.assert_array_equal(native_labels(one_hot, *geometry), label)


def test_labels_at_native_size_are_an_argmax_though_no_two_channels_are_in_memory(build):
    probabilities = np.random.default_rng(0).random((26, 6, 7, 5)).astype(np.float32)
    probabilities[3] = probabilities[9]  # of equals the first one counts
    affine, native = build.affine_of("RAS", (2.0, 2.0, 2.0)), build.affine_of("LPS", (0.9, 1, 1))
    geometry = affine, (11, 12, 9), native
    channels = everywhere(probabilities, *geometry)
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
        native_labels(np.zeros((4, 4, 4)), np.eye(4), (4, 4, 4), np.eye(4))


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
