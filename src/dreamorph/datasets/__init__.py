"""Kedro datasets: every result is written whole or not at all."""

from dreamorph.datasets.atomic import DamagedItemError, MissingDataError, StorageError
from dreamorph.datasets.files import AtomicFile, ObjectDataset, PriorDataset
from dreamorph.datasets.folder import FolderDataset
from dreamorph.datasets.nifti import NiftiStore
from dreamorph.datasets.records import RecordDataset
from dreamorph.datasets.simulated import SimulatedCohortDataset
from dreamorph.datasets.stores import AtomicStore, BytesStore, StoredItems

__all__ = [
    "AtomicFile",
    "AtomicStore",
    "BytesStore",
    "DamagedItemError",
    "FolderDataset",
    "MissingDataError",
    "NiftiStore",
    "ObjectDataset",
    "PriorDataset",
    "RecordDataset",
    "SimulatedCohortDataset",
    "StorageError",
    "StoredItems",
]
