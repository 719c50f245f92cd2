"""Kedro datasets: every result is written whole or not at all."""

from dreamorph.datasets.atomic import DamagedItemError, MissingDataError, StorageError
from dreamorph.datasets.files import AtomicFile, ObjectDataset, PriorDataset
from dreamorph.datasets.nifti import NiftiStore
from dreamorph.datasets.records import RecordDataset
from dreamorph.datasets.stores import AtomicStore, BytesStore, StoredItems

__all__ = [
    "AtomicFile",
    "AtomicStore",
    "BytesStore",
    "DamagedItemError",
    "MissingDataError",
    "NiftiStore",
    "ObjectDataset",
    "PriorDataset",
    "RecordDataset",
    "StorageError",
    "StoredItems",
]
