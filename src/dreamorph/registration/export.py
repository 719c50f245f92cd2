"""Maps as files that other tools read."""

from pathlib import Path

import numpy as np

from dreamorph.errors import RegistrationError
from dreamorph.registration.register import RegistrationResult
from dreamorph.volumes.native import save_nifti

#: From RAS, in which affines of NIfTI files are, to LPS, in which ITK thinks.
_LPS = np.array([-1.0, -1.0, 1.0])
#: Relative difference between the spacing of a map and of an affine that rounding explains.
_SAME = 1e-3


def itk_displacement(
    result: RegistrationResult, pair: int, fixed_affine: np.ndarray, moving_affine: np.ndarray
) -> np.ndarray:
    """The displacement field by which ITK, ANTs, Slicer or elastix pull a moving volume.

    Args:
        result: of `register`, in 3D.
        pair: which pair of the batch.
        fixed_affine, moving_affine: `(4, 4)`, voxel to RAS millimetres, of the grids on which the
            volumes were registered (`Cohort.affines`, or those of the files where their voxels were
            registered as they are). Any orientation, also oblique.

    Returns:
        `(D, H, W, 3)` float32: world point in the moving volume minus world point in the fixed one,
        in LPS millimetres, at each voxel of the fixed grid.

    Raises:
        RegistrationError: a map in 2D, or an affine whose spacing is not that of the map.
    """
    transform = result.transform[[pair]]
    if len(transform.shape) != 3:
        raise RegistrationError("an ITK displacement field is written for maps in 3D only")
    for name, affine in (("fixed_affine", fixed_affine), ("moving_affine", moving_affine)):
        spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
        if not np.allclose(spacing, transform.spacing_mm, rtol=_SAME):
            raise RegistrationError(
                f"{name} has a spacing of {spacing.round(4).tolist()} mm, the map one of "
                f"{list(transform.spacing_mm)}: pass the affine of the grid that was registered"
            )
    points = transform.to("cpu").points()[0].movedim(0, -1).double().numpy()
    middle = (np.array(transform.shape) - 1) / 2
    there = _world(moving_affine, points / np.array(transform.spacing_mm) + middle)
    here = _world(fixed_affine, np.moveaxis(np.indices(transform.shape), 0, -1))
    return ((there - here) * _LPS).astype(np.float32)


def save_itk_displacement(
    path: Path,
    result: RegistrationResult,
    pair: int,
    fixed_affine: np.ndarray,
    moving_affine: np.ndarray,
) -> None:
    """Write `itk_displacement` as NIfTI: five axes, intent 1007 (vector), the fixed geometry.

    Read by `SimpleITK.ReadImage` for `DisplacementFieldTransform`, or by `antsApplyTransforms -t`.
    For the way back save `result.inverse()` with the two affines exchanged.
    """
    field = itk_displacement(result, pair, fixed_affine, moving_affine)
    save_nifti(path, field[:, :, :, None, :], np.asarray(fixed_affine), intent="vector")


def _world(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """RAS millimetres `(D, H, W, 3)` of voxel indices of that shape."""
    affine = np.asarray(affine, dtype=np.float64)
    return index @ affine[:3, :3].T + affine[:3, 3]
