"""DICOM series as volumes, and what a SEG or an RTSTRUCT draws on them as label maps."""

from dreamorph.volumes.dicom.address import Address, is_address
from dreamorph.volumes.dicom.series import content_digest, read_header, release
from dreamorph.volumes.dicom.structures import read_voxels

__all__ = ["Address", "content_digest", "is_address", "read_header", "read_voxels", "release"]
