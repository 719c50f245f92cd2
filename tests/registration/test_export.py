"""Exported maps do in SimpleITK what they do here, whatever the orientation of the volumes."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from dreamorph.errors import RegistrationError
from dreamorph.registration import RegistrationResult, itk_displacement, save_itk_displacement
from dreamorph.spatial import SpatialTransform, affine_exp, gaussian_smooth
from dreamorph.volumes.native import save_nifti

SHAPE, SPACING = (20, 18, 16), (1.0, 1.5, 2.0)


def oriented(kind: str) -> np.ndarray:
    """Voxel to RAS mm with the spacing of these tests."""
    signs = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "oblique": (1, 1, 1)}[kind]
    matrix = np.diag([*signs, 1.0])
    if kind == "oblique":
        log = torch.zeros(1, 4, 4, dtype=torch.float64)
        log[0, 0, 1], log[0, 1, 0], log[0, 1, 2], log[0, 2, 1] = 0.4, -0.4, 0.2, -0.2
        matrix = affine_exp(log)[0].numpy()
    matrix = matrix @ np.diag([*SPACING, 1.0])
    matrix[:3, 3] = (12.0, -34.0, 5.0)
    return matrix


def some_result() -> RegistrationResult:
    generator = torch.Generator().manual_seed(3)
    velocity = gaussian_smooth(torch.randn(1, 3, 10, 9, 8, generator=generator), 1.5) * 8
    log = torch.zeros(1, 4, 4, dtype=torch.float64)
    log[0, :3] = 0.04 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    eye = affine_exp(torch.zeros(1, 4, 4))
    return RegistrationResult(
        SpatialTransform(eye, velocity, affine_exp(log), SHAPE, SPACING), ("",)
    )


@pytest.mark.parametrize("moving_kind", ["RAS", "oblique"])
@pytest.mark.parametrize("fixed_kind", ["RAS", "LAS", "LPS", "oblique"])
def test_itk_warps_as_we_do(fixed_kind: str, moving_kind: str, tmp_path: Path) -> None:
    result = some_result()
    fixed, moving = oriented(fixed_kind), oriented(moving_kind)
    moving[:3, 3] += 7.0
    volume = gaussian_smooth(torch.randn(1, 1, *SHAPE), 1.0)
    save_nifti(tmp_path / "fixed.nii.gz", np.zeros(SHAPE, np.float32), fixed)
    save_nifti(tmp_path / "moving.nii.gz", volume[0, 0].numpy(), moving)
    save_itk_displacement(tmp_path / "map.nii.gz", result, 0, fixed, moving)
    field = SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"), SimpleITK.sitkVectorFloat64)
    assert field.GetSize() == SHAPE
    resampled = SimpleITK.Resample(
        SimpleITK.ReadImage(str(tmp_path / "moving.nii.gz")),
        SimpleITK.ReadImage(str(tmp_path / "fixed.nii.gz")),
        SimpleITK.DisplacementFieldTransform(field),
        SimpleITK.sitkLinear,
        -99.0,
    )
    theirs = torch.from_numpy(SimpleITK.GetArrayFromImage(resampled).transpose(2, 1, 0).copy())
    seen = theirs > -50
    assert seen.float().mean() > 0.7
    assert torch.allclose(theirs[seen], result.warp(volume)[0, 0][seen], atol=1e-4)


def test_there_and_back_through_files(tmp_path: Path) -> None:
    result, fixed, moving = some_result(), oriented("LPS"), oriented("oblique")
    there, back = (
        itk_displacement(r, 0, a, b)
        for r, a, b in ((result, fixed, moving), (result.inverse(), moving, fixed))
    )
    assert there.shape == back.shape == (*SHAPE, 3)
    save_itk_displacement(tmp_path / "back.nii", result.inverse(), 0, moving, fixed)
    image = SimpleITK.ReadImage(str(tmp_path / "back.nii"), SimpleITK.sitkVectorFloat64)
    transform = SimpleITK.DisplacementFieldTransform(image)
    apart = []
    for index in np.ndindex(*SHAPE):
        start = (fixed @ [*index, 1.0])[:3] * (-1, -1, 1)
        end = start + there[index].astype(float)
        within = (np.linalg.inv(moving) @ [*(end * (-1, -1, 1)), 1.0])[:3]
        if (within >= 0).all() and (within <= np.array(SHAPE) - 1).all():
            apart.append(np.linalg.norm(np.array(transform.TransformPoint(end.tolist())) - start))
    assert len(apart) > 0.5 * np.prod(SHAPE)
    assert np.mean(apart) < 0.03
    assert np.max(apart) < 0.3


def test_an_affine_of_another_grid_is_refused() -> None:
    with pytest.raises(RegistrationError, match="spacing"):
        itk_displacement(some_result(), 0, np.eye(4), oriented("RAS"))
