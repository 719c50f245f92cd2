"""Volumes that open at the right place."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from dreamorph.datasets import DamagedItemError, NiftiStore

OBLIQUE = np.array(
    [[0.9, -0.3, 0.0, 10.0], [0.3, 0.9, 0.1, -5.0], [0.0, -0.1, 2.0, 3.0], [0, 0, 0, 1.0]]
)


@pytest.fixture
def store(tmp_path: Path) -> NiftiStore:
    return NiftiStore(str(tmp_path))


@pytest.fixture
def item() -> dict:
    image = torch.arange(60.0).reshape(1, 3, 4, 5)
    return {"image": image, "label": (image > 30).to(torch.uint8), "affine": OBLIQUE}


def test_volumes_come_back(store: NiftiStore, item: dict) -> None:
    store.save({"dream_0": item})
    loaded = store.load()["dream_0"]
    torch.testing.assert_close(loaded["image"], item["image"][0])
    assert torch.equal(loaded["label"], item["label"][0])
    np.testing.assert_allclose(loaded["affine"], OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("affine", [np.diag([-2.0, 1, 1, 1]), np.diag([2.0, -1, 3, 1]), OBLIQUE])
def test_headers_place_the_volume(store: NiftiStore, item: dict, affine: np.ndarray) -> None:
    store.save({"a": item | {"affine": affine}})
    for name in ("a_image.nii.gz", "a_label.nii.gz"):
        header = nibabel.load(store.path / name).header
        assert header.get_xyzt_units()[0] == "mm"
        assert int(header["sform_code"]) == int(header["qform_code"]) == 1
        np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)
        assert b"synthetic" in bytes(header["descrip"])
    assert nibabel.load(store.path / "a_label.nii.gz").get_data_dtype() == np.uint8


def test_label_values_beyond_a_byte_come_back(store: NiftiStore, item: dict) -> None:
    label = 205 * item["label"].int() + 70_000 * (item["image"] > 50).int()
    store.save({"a": item | {"label": label}})
    assert torch.equal(store.load()["a"]["label"].long(), label[0].long())
    assert nibabel.load(store.path / "a_label.nii.gz").get_data_dtype() == np.uint32


def test_labels_below_zero_come_back(store: NiftiStore, item: dict) -> None:
    label = item["label"].int() - (item["image"] > 50).int() * 2
    store.save({"a": item | {"label": label}})
    assert store.load()["a"]["label"].unique().tolist() == [-1, 0, 1]


def test_equal_items_give_equal_bytes(store: NiftiStore, item: dict) -> None:
    store.save({"a": item, "b": item})
    assert (store.path / "a_image.nii.gz").read_bytes() == (
        store.path / "b_image.nii.gz"
    ).read_bytes()


def test_a_label_may_be_missing_and_go(store: NiftiStore, item: dict) -> None:
    store.save({"a": item})
    store.save({"a": item | {"label": None}})
    assert "label" not in store.load()["a"]
    store.save({"a": None})
    assert not list(store.path.iterdir())


def test_a_truncated_volume_is_removed_when_read(store: NiftiStore, item: dict) -> None:
    store.save({"a": item})
    path = store.path / "a_image.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedItemError):
        store.load()["a"]
    assert not list(store.load())


def test_two_axes_are_refused(store: NiftiStore) -> None:
    with pytest.raises(Exception, match="three axes"):
        store.save({"a": {"image": torch.zeros(3, 3), "affine": np.eye(4)}})
