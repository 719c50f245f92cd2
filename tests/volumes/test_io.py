"""Headers and voxels, and files that are none."""

import nibabel as nib
import numpy as np
import pytest

from dreamorph.errors import CohortError
from dreamorph.volumes import io


@pytest.mark.parametrize("kind", ["RAS", "LAS", "LPS", "SRA", "oblique"])
def test_ras_header_agrees_with_nibabel(build, tmp_path, kind):
    affine = build.affine_of(kind, (1.5, 0.75, 3.0))
    path = build.save(tmp_path / "a.nii", build.image(0), affine)
    header = io.read_header(str(path))
    canonical = nib.as_closest_canonical(nib.load(path))
    assert header.shape == build.shape
    np.testing.assert_allclose(header.spacing_mm, (1.5, 0.75, 3.0), rtol=1e-6)
    assert header.ras().shape == canonical.shape
    np.testing.assert_allclose(header.ras().affine, canonical.affine, atol=1e-12)
    np.testing.assert_allclose(sorted(header.ras().extent_mm), sorted(header.extent_mm))


@pytest.mark.parametrize(
    ("unit", "per_mm"), [("mm", 1), ("meter", 1e-3), ("micron", 1e3), ("unknown", 1)]
)
def test_geometry_is_in_millimetres_whatever_the_unit(build, tmp_path, unit, per_mm):
    affine = build.affine_of("oblique", (1.5, 0.75, 3.0))
    image = nib.Nifti1Image(build.image(0), np.diag([per_mm, per_mm, per_mm, 1]) @ affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(io.read_header(str(tmp_path / "a.nii")).affine, affine, rtol=1e-5)


def test_a_unit_that_stands_for_nothing_counts_as_millimetres(build, tmp_path):
    path = build.save(tmp_path / "a.nii", build.image(0))
    content = bytearray(path.read_bytes())
    content[123] = 7
    path.write_bytes(content)
    np.testing.assert_array_equal(io.read_header(str(path)).affine, np.eye(4))


def test_broken_files_raise_one_kind_of_error_without_their_name(build, tmp_path):
    good = build.save(tmp_path / "Jane_Doe.nii.gz", build.image(0)).read_bytes()
    cases = {
        "cut.nii.gz": good[: len(good) // 2],
        "text.nii.gz": b"this is no gzip",
        "text.nii": b"this is no NIfTI" * 40,
        "empty.nii.gz": b"",
        "flipped.nii.gz": good[:200] + bytes(255 - b for b in good[200:400]) + good[400:],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(io.UnreadableVolumeError) as caught:
            io.read_voxels(str(tmp_path / name))
        assert name not in str(caught.value)
    with pytest.raises(io.UnreadableVolumeError, match="does not exist"):
        io.read_header(str(tmp_path / "missing.nii.gz"))
    with pytest.raises(io.UnreadableVolumeError, match="cannot be opened"):
        io.content_digest(str(tmp_path / "missing.nii.gz"))


def test_impossible_header_claims_no_memory(build, tmp_path):
    path = build.save(tmp_path / "a.nii", build.image(0))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([30000, 30000, 30000], dtype="<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(io.UnreadableVolumeError, match="impossible shape"):
        io.read_voxels(str(path))


def test_channels(build, tmp_path):
    stack = np.stack([build.image(0), build.image(1)], axis=-1)
    path = str(build.save(tmp_path / "a.nii.gz", stack))
    assert io.read_header(path).channels == 2
    np.testing.assert_array_equal(io.read_voxels(path, channel=1), stack[..., 1])
    with pytest.raises(io.UnreadableVolumeError, match="channel 2"):
        io.read_voxels(path, channel=2)
    single = str(build.save(tmp_path / "b.nii.gz", stack[..., :1]))
    assert io.read_voxels(single).shape == build.shape
    assert io.read_header(single).channels == 1


def test_axes_of_one_voxel_at_the_end_do_not_count(build, tmp_path):
    stack = np.stack([build.image(0), build.image(1)], axis=-1)[..., None, None]
    path = str(build.save(tmp_path / "a.nii.gz", stack))
    assert io.read_header(path).channels == 2
    np.testing.assert_array_equal(io.read_voxels(path, channel=1), stack[..., 1, 0, 0])


def test_flat_and_coloured_images_are_no_volumes(build, tmp_path):
    flat = build.save(tmp_path / "flat.nii", np.zeros((5, 5), dtype=np.uint8))
    with pytest.raises(io.UnreadableVolumeError, match="expected 3 axes"):
        io.read_header(str(flat))
    colour = np.zeros((5, 5, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = build.save(tmp_path / "colour.nii", colour)
    with pytest.raises(io.UnreadableVolumeError, match="real numbers"):
        io.read_voxels(str(path))


def test_digest_is_of_values_not_of_storage():
    voxels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert io.voxel_digest(voxels) == io.voxel_digest(voxels.astype(np.float64))
    assert io.voxel_digest(voxels) != io.voxel_digest(voxels.reshape(4, 3, 2))
    assert io.voxel_digest(voxels) != io.voxel_digest(voxels + 1)


def test_a_path_may_hold_what_parts_an_address(build, tmp_path):
    file = build.save(tmp_path / "a::b" / "c.nii", build.image(1))
    assert io.read_header(str(file)).shape == build.shape
    assert io.read_voxels(str(file)).shape == build.shape


def test_a_file_of_another_format_is_named_as_such(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(CohortError, match=r"a \.nrrd file: expected NIfTI"):
        io.read_header(str(tmp_path / "a.nrrd"))


def test_npz_volume_by_address(tmp_path):
    volumes = np.arange(2 * 5 * 6 * 7, dtype=np.uint8).reshape(2, 5, 6, 7)
    np.savez_compressed(tmp_path / "a.npz", train_images=volumes)
    address = io.npz_address(tmp_path / "a.npz", "train_images", 1)
    np.testing.assert_array_equal(io.read_voxels(address), volumes[1])
    assert io.read_header(address).shape == (5, 6, 7)
    assert io.content_digest(address) != io.content_digest(address[:-1] + "0")
    io.release()
    with pytest.raises(io.UnreadableVolumeError, match="array test_images"):
        io.read_voxels(io.npz_address(tmp_path / "a.npz", "test_images", 0))
    io.release()
