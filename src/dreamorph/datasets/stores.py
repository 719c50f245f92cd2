"""Folders of items, each written whole or not at all, so that finished work survives a kill.

A generator node yields `{key: item}` one at a time; a second catalog entry on the same folder
tells the node what is already there.
"""

import gzip
import io
import logging
import pickle
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kedro.io import AbstractDataset
from nibabel.filebasedimages import ImageFileError

from dreamorph.datasets.atomic import DamagedItemError, sweep, write_bytes

logger = logging.getLogger(__name__)

_LONGEST_KEY = 150
# What readers raise on bad contents. Not OSError or MemoryError: those speak of the machine, and
# the file may be good.
_DAMAGE = (
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    gzip.BadGzipFile,
    ImageFileError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


class StoredItems(Mapping[str, Any]):
    """What a store held when it was loaded: key -> item, each read from disk on access.

    A file that turns out to be damaged is removed and raises `DamagedItemError`, a KeyError:
    `items.get(key)` therefore gives None, as for an item that was never there.
    """

    def __init__(self, store: "ItemStore") -> None:
        self._store = store
        self._keys = tuple(store.keys())

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return self._store.read(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"StoredItems({len(self)} items)"

    def stale(self, wanted: Collection[str]) -> dict[str, None]:
        """What to yield so that the store removes every item that is not wanted any more."""
        return dict.fromkeys(key for key in self if key not in wanted)


class ItemStore(AbstractDataset[Mapping[str, Any], StoredItems]):
    """A folder of items; subclasses say how one item becomes files and back."""

    def __init__(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.metadata = metadata
        self._swept = False

    def save(self, data: Mapping[str, Any]) -> None:
        """Write each item atomically; an item of None removes what is stored under its key."""
        if not self._swept:  # some stores are never loaded, and items come one by one
            sweep(self.path)
            self._swept = True
        for key, item in data.items():
            self._check_key(key)
            if item is None:
                self.remove(key)
            else:
                self.write(key, item)

    def load(self) -> StoredItems:
        """The items of the folder; empty where the folder is absent."""
        sweep(self.path)
        return StoredItems(self)

    def read(self, key: str) -> Any:
        """One item. Raises DamagedItemError, and removes the file, where it cannot be read."""
        try:
            return self._read(key)
        except _DAMAGE as error:
            self.remove(key)
            raise DamagedItemError(
                f"{key} in {self.path} was damaged ({type(error).__name__}) and has been removed: "
                "the same command makes it anew"
            ) from error

    @abstractmethod
    def keys(self) -> list[str]:
        """The keys of all complete items, sorted."""

    @abstractmethod
    def write(self, key: str, item: Any) -> None:
        """Write one item atomically."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove one item; nothing happens where it is absent."""

    @abstractmethod
    def _read(self, key: str) -> Any: ...

    def _names(self, suffix: str) -> list[str]:
        """Keys of the files with a suffix; temporary files start with a dot."""
        if not self.path.is_dir():
            return []
        names = (p.name for p in self.path.iterdir() if p.is_file() and p.name[0] != ".")
        return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))

    @staticmethod
    def _check_key(key: str) -> None:
        if not key or len(key) > _LONGEST_KEY or key[0] == "." or set(key) & set("/\\\0"):
            raise ValueError(
                f"a key names a file, so it has 1 to {_LONGEST_KEY} characters, no slash and no "
                f"leading dot: got {key!r}"
            )

    def _exists(self) -> bool:
        return bool(self.keys())

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.path)}


class AtomicStore(ItemStore):
    """Items of tensors and plain values, one `<key>.pt` each, read without running any code."""

    def keys(self) -> list[str]:
        """Keys of the readable files; a truncated or foreign file counts as absent."""
        return [key for key in self._names(".pt") if self._complete(self._file(key))]

    def write(self, key: str, item: Any) -> None:
        """Save a (nested) dict or list of tensors and plain values.

        Through memory: torch hides a full disk behind a RuntimeError of its own.
        """
        buffer = io.BytesIO()
        torch.save(_storable(item, key), buffer)
        write_bytes(self._file(key), buffer.getvalue())

    def remove(self, key: str) -> None:
        """Remove `<key>.pt`."""
        self._file(key).unlink(missing_ok=True)

    def _read(self, key: str) -> Any:
        # mmap: a node that only compares fingerprints does not read the tensors.
        return torch.load(self._file(key), map_location="cpu", weights_only=True, mmap=True)

    def _file(self, key: str) -> Path:
        return self.path / f"{key}.pt"

    @staticmethod
    def _complete(path: Path) -> bool:
        # torch writes zip archives, whose directory of contents comes last.
        if zipfile.is_zipfile(path):
            return True
        logger.warning("%s is damaged or foreign: treated as absent", path)
        return False


class BytesStore(ItemStore):
    """Items of bytes, such as pictures, one `<key><suffix>` each."""

    def __init__(
        self, path: str, suffix: str = ".png", metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(path, metadata)
        self.suffix = suffix

    def keys(self) -> list[str]:
        """Keys of all files with the suffix."""
        return self._names(self.suffix)

    def write(self, key: str, item: bytes) -> None:
        """Write the bytes as they are."""
        write_bytes(self.path / f"{key}{self.suffix}", item)

    def remove(self, key: str) -> None:
        """Remove `<key><suffix>`."""
        (self.path / f"{key}{self.suffix}").unlink(missing_ok=True)

    def _read(self, key: str) -> bytes:
        return (self.path / f"{key}{self.suffix}").read_bytes()


def _storable(value: Any, where: str) -> Any:
    """Tensors on the CPU without the storage they are views of; plain values as they are."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().as_subclass(torch.Tensor)
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if whole else tensor.clone()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Mapping):
        return {key: _storable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_storable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(
        f"a store keeps tensors and plain values, so that reading runs no code: {where} is a "
        f"{type(value).__name__}; store its tensors and fields (torch.from_numpy for arrays)"
    )
