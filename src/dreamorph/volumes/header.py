"""Geometry of a volume, and what is raised where there is none."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from dreamorph.errors import CohortError


class UnreadableVolumeError(CohortError):
    """The bytes are no volume. The message names no file, because file names may name patients."""


@dataclass(frozen=True, eq=False)
class Header:
    """Geometry of a volume.

    Attributes:
        shape: voxels along each array axis.
        affine: (4, 4) float64, maps a voxel index to world mm (RAS).
        channels: values a voxel.
        oriented: whether the file says which way its axes point.
        noted_mm: voxel size that the file notes beside the affine, if it does.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    channels: int = 1
    oriented: bool = True
    noted_mm: tuple[float, float, float] | None = None

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size along each array axis, (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths of the scanned box, (3,)."""
        return np.asarray(self.spacing_mm * self.shape)

    def ras(self) -> "Header":
        """The same volume after its axes were flipped and permuted to the nearest R, A, S."""
        orientation = nib.io_orientation(self.affine)
        if not np.isfinite(orientation).all():
            raise UnreadableVolumeError("the affine gives no orientation to an axis")
        shape = np.empty(3, dtype=int)
        shape[orientation[:, 0].astype(int)] = self.shape
        affine = self.affine @ nib.orientations.inv_ornt_aff(orientation, self.shape)
        turned = int(shape[0]), int(shape[1]), int(shape[2])
        return Header(turned, affine, self.channels, self.oriented)
