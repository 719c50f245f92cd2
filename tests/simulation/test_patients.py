import numpy as np
import pytest
import torch
from scipy import ndimage

from dreamorph.registration import AffineConfig, RegistrationConfig, VelocityConfig, register
from dreamorph.simulation import LABEL_NAMES, SimulationConfig, registration_error_mm, simulate
from dreamorph.spatial import extent, points_like, sample
from dreamorph.spatial.transform import argmax_labels, one_hot

SPACING = (2.0, 2.0, 2.0)


def on_grid(cohort, voxels):
    """A volume padded around its centre to the full grid, as the pipeline does."""
    low = [(n - m) // 2 for n, m in zip(cohort.config.shape, voxels.shape, strict=True)]
    pads = [(a, n - m - a) for a, n, m in zip(low, cohort.config.shape, voxels.shape, strict=True)]
    return torch.from_numpy(np.pad(voxels, pads))[None, None]


def dice(first, second):
    scores = []
    for index in LABEL_NAMES:
        a, b = first == index, second == index
        scores.append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
    return scores


def pair(cohort, index):
    volume = cohort.volumes[index]
    image = on_grid(cohort, volume.image).float()
    label = on_grid(cohort, volume.label)
    return volume.case, image, label, on_grid(cohort, np.ones_like(volume.label))


def test_splits_classes_and_names(cohort):
    assert [v.split for v in cohort.volumes] == ["train"] * 4 + ["unlabelled"] * 2 + ["test"] * 2
    assert [v.cls for v in cohort.volumes] == ["normal", "enlarged"] * 4
    assert [v.case for v in cohort.volumes][:2] == ["sim_001", "sim_002"]
    assert len({v.subject for v in cohort.volumes}) == 8
    assert cohort.truth.cases == tuple(v.case for v in cohort.volumes)


def test_the_seed_decides_and_the_number_of_subjects_does_not(cohort):
    fewer = simulate(SimulationConfig(n_labelled=2, n_unlabelled=0, n_test=0, seed=3))
    for first, second in zip(cohort.volumes, fewer.volumes, strict=False):
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.label, second.label)
    assert torch.equal(cohort.truth.velocities[:2], fewer.truth.velocities)
    other = simulate(SimulationConfig(n_labelled=1, n_unlabelled=0, n_test=0, seed=4))
    assert not torch.equal(other.truth.velocities[0], cohort.truth.velocities[0])


def test_every_subject_has_every_structure_in_one_piece(cohort):
    parts = {1: 1, 2: 2, 3: 2, 4: 2}
    for volume in cohort.volumes:
        for index, count in parts.items():
            mask = volume.label == index
            assert mask.sum() > 300
            assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == count


def test_enlarged_ventricles_are_larger(cohort):
    def volumes(cls):
        return [int((v.label == 1).sum()) for v in cohort.volumes if v.cls == cls]

    assert np.mean(volumes("enlarged")) > 1.2 * np.mean(volumes("normal"))


def test_volumes_differ_in_size_and_brightness(cohort):
    assert len({v.image.shape for v in cohort.volumes}) > 3
    means = [v.image.mean() for v in cohort.volumes]
    assert max(means) > 1.3 * min(means)
    assert all(v.image.dtype == np.int16 and v.label.dtype == np.uint8 for v in cohort.volumes)


def test_world_coordinates_follow_the_crop(cohort):
    """The voxel in the middle of the full grid has the same world point in every volume."""
    for volume in cohort.volumes:
        far = volume.affine @ [*volume.image.shape, 1]
        assert np.allclose(np.diag(volume.affine), [2, 2, 2, 1])
        centre = np.array([0, -16, 10])
        half = np.array(cohort.config.shape)
        assert (volume.affine[:3, 3] >= centre - half + 1 - 1e-9).all()
        assert (far[:3] <= centre + half + 1 + 1e-9).all()


@pytest.mark.parametrize(("fixed", "moving"), [(0, 1), (2, 6), (5, 3)])
def test_the_true_map_brings_labels_together(cohort, fixed, moving):
    case_f, _, label_f, mask_f = pair(cohort, fixed)
    case_m, _, label_m, _ = pair(cohort, moving)
    shape = cohort.config.shape
    points = cohort.truth.pair_points([case_f], [case_m], points_like(shape, SPACING))
    hot = sample(one_hot(label_m, 4), points, extent(shape, SPACING))
    moved = argmax_labels(hot) * mask_f
    assert np.mean(dice(moved, label_f)) > 0.9
    assert np.mean(dice(label_m, label_f)) < 0.8


def test_the_true_maps_bring_the_template_to_the_subject(cohort):
    case, _, label, mask = pair(cohort, 1)
    template = torch.from_numpy(cohort.template_label)[None, None]
    moved = cohort.truth.transforms([case]).inverse().warp_labels(template, 4)
    assert np.mean(dice(moved * mask, label)) > 0.9


@pytest.mark.slow
def test_registration_comes_closer_to_the_truth(cohort):
    chosen = [(0, 2), (3, 6)]
    fixed = [pair(cohort, i) for i, _ in chosen]
    moving = [pair(cohort, j) for _, j in chosen]
    stacked = [torch.cat([p[k] for p in side]) for k in (1, 2, 3) for side in (fixed, moving)]
    config = RegistrationConfig(
        affine=AffineConfig(levels=(2,), iterations=(30,)),
        velocity=VelocityConfig(levels=(4,), iterations=(30,), factor=4),
        device="cpu",
    )
    result = register(
        stacked[0],
        stacked[1],
        config,
        fixed_mask=stacked[4],
        moving_mask=stacked[5],
        spacing=SPACING,
    )
    error = registration_error_mm(
        cohort.truth, [p[0] for p in fixed], [p[0] for p in moving], result.transform, stacked[2]
    )
    assert (error.after_mean_mm < 0.6 * error.before_mean_mm).all()
    assert (error.after_p95_mm < error.before_p95_mm).all()
