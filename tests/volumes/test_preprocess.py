"""Known volumes through the whole of preprocessing."""

import numpy as np
import pandas as pd
import pytest
import torch

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig, SplitConfig
from dreamorph.volumes.ingest import load_cohort
from dreamorph.volumes.preprocess import preprocess
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import assign_splits
from dreamorph.volumes.validation import validate

KINDS = ["RAS", "LAS", "LPS", "SRA", "oblique"]


def world(affine, shape):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    return np.einsum("ij,jdhw->idhw", affine[:3, :3], index) + affine[:3, 3][:, None, None, None]


def pairs(build, root, volumes):
    """Write (image, label, affine) triples as a plain folder."""
    for i, (image, label, affine) in enumerate(volumes, start=1):
        build.save(root / f"images/scan_{i}.nii.gz", image, affine)
        build.save(root / f"labels/scan_{i}.nii.gz", label, affine)
    return root


def ramps(build, kind, spacing, shape=(18, 16, 20)):
    """Three volumes whose voxel value is a linear function of the world position in mm."""
    result = []
    for i in range(3):
        affine = build.affine_of(kind, spacing)
        affine[:3, 3] += 3.25 * i
        x, y, z = world(affine, shape)
        result.append(((x + 2 * y - z).astype(np.float32), build.label(shape), affine))
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("spacing", "target"),
    [
        ((1.0, 1.0, 1.0), None),
        ((1.0, 1.0, 1.0), (0.8, 0.8, 0.8)),
        ((0.7, 1.3, 2.0), (1.1, 1.1, 1.1)),
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
    ],
)
def test_each_voxel_shows_what_lay_at_its_world_position(build, tmp_path, kind, spacing, target):
    pairs(build, tmp_path, ramps(build, kind, spacing))
    config = CohortConfig(
        path=tmp_path, modality="CT", spacing_mm=target, ct_window_hu=(-500.0, 500.0)
    )
    cohort = load_cohort(config)
    margin = 2 if target == (2.0, 2.0, 2.0) else 1
    for i in range(len(cohort)):
        x, y, z = world(cohort.affines[i], cohort.shape)
        expected = (x + 2 * y - z + 500) / 1000
        # linear interpolation is exact on a ramp, away from the border of the scan
        index = np.argwhere(cohort.masks[i, 0].numpy())
        low, high = index.min(axis=0) + margin, index.max(axis=0) + 1 - margin
        inner = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        found = cohort.images[i, 0].numpy()[inner]
        assert found.size > 10
        np.testing.assert_allclose(found, expected[inner], atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_without_resampling_every_voxel_is_copied(build, tmp_path, kind):
    """Odd sizes on an even grid: no half-voxel blur, no label voxel lost."""
    shape = (13, 12, 9)
    affine = build.affine_of(kind)
    pairs(build, tmp_path, [(build.image(i, shape), build.label(shape), affine) for i in range(3)])
    cohort = load_cohort(CohortConfig(path=tmp_path, modality="CT", ct_window_hu=(0.0, 200.0)))
    inverse = np.linalg.inv(affine)
    for i, case in enumerate(cohort.cases):
        seed = int(case.split("_")[1]) - 1
        mask = cohort.masks[i, 0].numpy()
        index = np.argwhere(mask).T
        assert index.shape[1] == np.prod(shape)
        position = cohort.affines[i][:3, :3] @ index + cohort.affines[i][:3, 3:]
        native = inverse[:3, :3] @ position + inverse[:3, 3:]
        np.testing.assert_allclose(native, native.round(), atol=1e-5)  # headers are float32
        there = tuple(native.round().astype(int))
        values = build.image(seed, shape)[there] / 200
        np.testing.assert_allclose(cohort.images[i, 0].numpy()[mask], values, atol=1e-6)
        if cohort.table["labelled"][i]:
            np.testing.assert_array_equal(
                cohort.labels[i, 0].numpy()[mask], build.label(shape)[there]
            )


def ball(affine, shape, centre, radius):
    distance = np.linalg.norm(world(affine, shape) - np.reshape(centre, (3, 1, 1, 1)), axis=0)
    return distance <= radius


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [(1.0, 1.0, 1.0), (1.5, 1.5, 1.5)])
def test_a_labels_volume_and_centre_survive_resampling(build, tmp_path, kind, target):
    spacing, shape = (0.8, 0.8, 1.6), (36, 36, 18)
    affine = build.affine_of(kind, spacing)
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    inner, outer = ball(affine, shape, centre, 5), ball(affine, shape, centre, 9)
    label = (inner * 1 + outer * 1).astype(np.uint8)
    volumes = [(build.image(i, shape), label, affine) for i in range(3)]
    cohort = load_cohort(CohortConfig(path=pairs(build, tmp_path, volumes), spacing_mm=target))
    for i in range(len(cohort)):
        found = cohort.labels[i, 0].numpy()
        for value, expected in ((1, outer & ~inner), (2, inner)):
            volume = (found == value).sum() * np.prod(cohort.spacing_mm)
            assert volume == pytest.approx(expected.sum() * np.prod(spacing), rel=0.1)
            position = world(cohort.affines[i], cohort.shape)[:, found == value].mean(axis=1)
            np.testing.assert_allclose(position, centre, atol=0.15)


def test_mr_is_normalised_per_volume(build, tmp_path):
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 255, build.shape).astype(np.uint8),
        (rng.gamma(2.0, 3e5, build.shape)).astype(np.float32),
        rng.normal(1000, 50, build.shape).astype(np.float32),
    ]
    images[2][3, 3, 3] = 1e7  # one spike must not squeeze the rest
    pairs(build, tmp_path, [(image, build.label(), np.eye(4)) for image in images])
    cohort = load_cohort(CohortConfig(path=tmp_path))
    assert cohort.modality == "MR"
    for image, mask in zip(cohort.images, cohort.masks, strict=True):
        assert image[mask].mean().item() == pytest.approx(0, abs=1e-5)
        assert image[mask].std().item() == pytest.approx(1, abs=1e-3)
        assert image.abs().max().item() < 6
        assert (image[~mask] == 0).all()
    assert not cohort.masks.all()


def test_the_empty_outside_of_a_stripped_scan_does_not_count(build, tmp_path):
    images = []
    for i in range(3):
        image = build.image(i)
        image[:, :5] = 0
        images.append(image)
    pairs(build, tmp_path, [(image, build.label(), np.eye(4)) for image in images])
    cohort = load_cohort(CohortConfig(path=tmp_path))
    for i in range(3):
        tissue = cohort.masks[i, 0].clone()
        tissue[:, :6] = False  # 5 voxels and one of padding
        assert cohort.images[i, 0][tissue].mean().item() == pytest.approx(0, abs=1e-5)
        assert cohort.images[i, 0][tissue].std().item() == pytest.approx(1, abs=1e-3)


def test_ct_window(build, tmp_path):
    image = np.full(build.shape, 100, dtype=np.int16)
    image[:4], image[4:6] = -1000, 1500
    volumes = [(image + i, build.label(), np.eye(4)) for i in range(3)]
    cohort = load_cohort(CohortConfig(path=pairs(build, tmp_path, volumes)))
    assert cohort.modality == "CT"
    values = cohort.images[0, 0][cohort.masks[0, 0]].unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 0.5, 1.0]))


def test_shapes_stay_binary(build, tmp_path):
    volumes = []
    for i in range(3):
        image = np.zeros(build.shape, dtype=np.uint8)
        image[2:9, 3:10, 2 : 7 + (i > 0)] = 255
        image[5, 5, i] = 255
        volumes.append((image, build.label(), np.eye(4)))
    pairs(build, tmp_path, volumes)
    cohort = load_cohort(CohortConfig(path=tmp_path, spacing_mm=(0.75, 0.75, 0.75)))
    assert cohort.modality == "shape"
    assert cohort.images.unique().tolist() == [0.0, 1.0]


def test_labels_of_unlabelled_cases_are_nowhere(build, tmp_path):
    root = build.msd(tmp_path, range(1, 9))
    config = CohortConfig(path=root)
    split = SplitConfig(train_subjects=2, unlabelled_subjects=3)
    cohort = load_cohort(config, split)
    withheld = cohort.indices("unlabelled")
    assert len(withheld) == 3
    assert not cohort.labels[withheld].any()
    assert not cohort.table["labelled"][withheld].any()
    for i in cohort.indices("train") + cohort.indices("test"):
        assert cohort.labels[i].unique().tolist() == [0, 1, 2]
    assert cohort.label_names == {1: "front", 2: "back"}
    assert cohort.n_labels == 2
    assert list(cohort.table.columns) == [
        "case", "subject", "class", "split", "labelled", "fingerprint",
    ]  # fmt: skip
    assert cohort.table["labelled"].dtype == bool


def test_values_in_files_become_the_cohorts_labels(build, tmp_path):
    lookup = np.array([0, 300, 17]).astype(np.int16)
    volumes = [(build.image(i), lookup[build.label()], np.eye(4)) for i in range(3)]
    cohort = load_cohort(CohortConfig(path=pairs(build, tmp_path, volumes)))
    i = cohort.indices("train")[0]
    # 17 is the second box of three voxels along the first axis, 300 the first
    assert [(cohort.labels[i] == v).sum().item() for v in (1, 2)] == [36, 36]
    assert cohort.label_names == {1: "label_17", 2: "label_300"}


def test_a_label_that_only_test_volumes_have_is_told(build, tmp_path, caplog):
    root = pairs(build, tmp_path, [(build.image(i), build.label(), np.eye(4)) for i in range(6)])
    config = CohortConfig(path=root)
    table = load_cohort(config).table
    assert "training volumes, but" not in caplog.text
    for case in table.loc[table["split"] == "train", "case"]:
        file = root / f"labels/{case}.nii.gz"
        build.save(file, np.where(build.label() == 2, 0, build.label()).astype("u1"), np.eye(4))
    load_cohort(config)
    (line,) = [r.message for r in caplog.records if "training volumes, but" in r.message]
    assert line.startswith(
        "label 2 (label_2) is in none of 3 training volumes, but in 3 of 3 test volumes:"
    )


def test_a_label_that_the_common_grid_is_too_coarse_for_is_told(build, tmp_path, caplog):
    for i in range(4):
        label = build.label()
        label[0, 0, 0] = 3
        build.save(tmp_path / f"images/a{i}.nii.gz", build.image(i))
        build.save(tmp_path / f"labels/a{i}.nii.gz", label)
    load_cohort(CohortConfig(path=tmp_path))
    assert "is too small for the common grid" not in caplog.text
    load_cohort(CohortConfig(path=tmp_path, spacing_mm=(3.0, 3.0, 3.0), grid_multiple=1))
    assert "label 3 (label_3) of 4 cases is too small for the common grid" in caplog.text


def test_deterministic(build, tmp_path):
    config = CohortConfig(path=build.msd(tmp_path, range(1, 6)), spacing_mm=(1.1, 0.9, 1.3))
    first, second = load_cohort(config), load_cohort(config)
    assert first.fingerprint() == second.fingerprint()
    assert torch.equal(first.images, second.images)
    other = load_cohort(config, SplitConfig(seed=1))
    assert other.fingerprint() != first.fingerprint()


def test_unused_cases_are_not_read(build, tmp_path):
    root = build.msd(tmp_path, range(1, 7))
    cohort = load_cohort(CohortConfig(path=root), SplitConfig(train_subjects=2, test_subjects=1))
    assert len(cohort) == 3


def test_a_file_that_changed_meanwhile_is_named(build, tmp_path):
    config = CohortConfig(path=build.msd(tmp_path, range(1, 4)))
    checked = validate(scan(config), config)
    table = assign_splits(checked.good, SplitConfig())
    path = tmp_path / "imagesTr/scan_002.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CohortError, match="case scan_002: the voxels cannot be read"):
        preprocess(table, checked.facts, config)


def test_the_split_table_may_travel_as_csv(build, tmp_path):
    config = CohortConfig(path=build.msd(tmp_path, range(1, 9)))
    checked = validate(scan(config), config)
    table = assign_splits(checked.good, SplitConfig(unlabelled_subjects=2))
    table.to_csv(tmp_path / "splits.csv", index=False)
    direct = preprocess(table, checked.facts, config)
    read = preprocess(pd.read_csv(tmp_path / "splits.csv"), checked.facts, config)
    assert read.fingerprint() == direct.fingerprint()


def test_no_case_to_read(build, tmp_path):
    config = CohortConfig(path=build.msd(tmp_path, range(1, 4)))
    checked = validate(scan(config), config)
    table = assign_splits(checked.good, SplitConfig())
    with pytest.raises(CohortError, match="holds no case of the splits"):
        preprocess(table[:0], checked.facts, config)


def test_classification_from_npz(tmp_path):
    rng = np.random.default_rng(0)
    content = {}
    for part, count in (("train", 8), ("val", 4), ("test", 6)):
        volumes = (rng.random((count, 8, 8, 8)) > 0.6).astype(np.uint8) * 255
        content[f"{part}_images"] = volumes
        content[f"{part}_labels"] = (np.arange(count) % 2)[:, None]
    np.savez_compressed(tmp_path / "shapes.npz", **content)
    config = CohortConfig(path=tmp_path / "shapes.npz", class_names={"0": "normal", "1": "mass"})
    cohort = load_cohort(config, SplitConfig(train_subjects=4))
    assert cohort.modality == "shape"
    assert cohort.class_names == ["mass", "normal"]
    assert cohort.label_names == {}
    assert [len(cohort.indices(s)) for s in ("train", "unlabelled", "test")] == [4, 4, 6]
    assert cohort.table["class"][cohort.indices("unlabelled")].tolist() == [None] * 4
    i = cohort.indices("test")[0]
    np.testing.assert_array_equal(cohort.images[i, 0], content["test_images"][0] / 255)
