"""Dreamed volumes as NIfTI files that any viewer opens at the right place."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from dreamorph.datasets.atomic import write_bytes
from dreamorph.datasets.stores import ItemStore

_IMAGE, _LABEL = "_image.nii.gz", "_label.nii.gz"
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_COMPRESSION = 4


class NiftiStore(ItemStore):
    """Items `{image, affine, label?}` as `<key>_image.nii.gz` and `<key>_label.nii.gz`.

    image: (D, H, W) float, stored as float32; label: (D, H, W) integers, stored as uint8 where
    that holds them, else wider; leading axes of length one are dropped; affine: 4x4 float64,
    voxel index to world RAS millimetres. Equal items give equal bytes. The header's description
    says that the volume is synthetic.
    """

    def __init__(
        self,
        path: str,
        description: str = "synthetic: made by dreamorph, not a patient",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(path, metadata)
        self.description = description

    def keys(self) -> list[str]:
        """Keys of the images; an image is written last, so its label is there too."""
        return self._names(_IMAGE)

    def write(self, key: str, item: dict[str, Any]) -> None:
        """Write the label, then the image; a label left from before is removed."""
        affine = np.asarray(item["affine"], dtype=np.float64)
        label = item.get("label")
        if label is None:
            self._file(key, _LABEL).unlink(missing_ok=True)
        else:
            volume = _volume(label, np.int64)
            ends = int(volume.min(initial=0)), int(volume.max(initial=0))
            kind = np.result_type(*map(np.min_scalar_type, ends))
            self._write_one(self._file(key, _LABEL), volume.astype(kind), affine)
        self._write_one(self._file(key, _IMAGE), _volume(item["image"], np.float32), affine)

    def remove(self, key: str) -> None:
        """Remove image and label."""
        for suffix in (_IMAGE, _LABEL):
            self._file(key, suffix).unlink(missing_ok=True)

    def _write_one(self, path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
        image = nibabel.Nifti1Image(volume, affine)
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = self.description.encode()[:79]
        image.set_sform(affine, code=_SCANNER)
        image.set_qform(affine, code=_SCANNER)
        write_bytes(path, gzip.compress(image.to_bytes(), _COMPRESSION, mtime=0))

    def _read(self, key: str) -> dict[str, Any]:
        image = nibabel.load(self._file(key, _IMAGE))
        item = {
            "image": torch.from_numpy(image.get_fdata(dtype=np.float32)),
            "affine": np.asarray(image.affine, dtype=np.float64),
        }
        if self._file(key, _LABEL).exists():
            label = nibabel.load(self._file(key, _LABEL))
            item["label"] = torch.from_numpy(
                np.asarray(label.dataobj).astype(label.get_data_dtype())
            )
        return item

    def _file(self, key: str, suffix: str) -> Path:
        return self.path / f"{key}{suffix}"


def _volume(value: Any, dtype: type) -> np.ndarray:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise ValueError(f"a volume has three axes (D, H, W): got shape {array.shape}")
    return array.astype(dtype)
