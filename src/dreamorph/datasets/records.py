"""Frozen records of arrays, tables and facts as folders of plain files, without any pickle."""

import dataclasses
import importlib
import io
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from kedro.io import AbstractDataset

from dreamorph.datasets.atomic import StorageError, atomic_path, storage_errors, sweep, write_bytes
from dreamorph.datasets.files import check_exists

# Records are rebuilt by importing their class: only from here.
PACKAGE = "dreamorph"
_INDEX = "record.json"
_BLOCK = 1 << 24
_MAPPED_BYTES = 1 << 20


class RecordDataset(AbstractDataset[Any, Any]):
    """A dataclass of this package, such as `Cohort`, as a folder.

    Fields may hold tensors and arrays (`.npy`, large ones mapped into memory on load, where
    changes stay private), tables (`.parquet`), plain values, paths, tuples, lists, dicts with any
    plain keys, and nested records. `record.json` names the files and is replaced last, in one
    step, so a reader sees the old record or the new one and nothing between.
    """

    def __init__(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.metadata = metadata

    def save(self, data: Any) -> None:
        """Write all files under new names, switch the index over, remove the old files."""
        sweep(self.path)
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            token = secrets.token_hex(4)
            writer = _Writer(self.path, token)
            try:
                index = json.dumps(writer.encode(data, "record"), indent=1)
                write_bytes(self.path / _INDEX, index.encode())
            except BaseException:
                self._keep(lambda path: token not in path.name)
                raise
            self._keep(lambda path: token in path.name or path.name == _INDEX)

    def load(self) -> Any:
        """Rebuild the record. Raises MissingDataError where nothing was saved."""
        check_exists(self.path / _INDEX)
        try:
            return _Reader(self.path).decode(json.loads((self.path / _INDEX).read_text()))
        except (ValueError, LookupError, TypeError, EOFError, FileNotFoundError) as error:
            raise StorageError(
                f"{self.path} cannot be read ({error}): remove the folder, then the same command "
                "makes it anew"
            ) from error

    def _keep(self, wanted: Callable[[Path], bool]) -> None:
        for path in self.path.iterdir():
            if path.is_file() and path.name[0] != "." and not wanted(path):
                path.unlink()

    def _exists(self) -> bool:
        return (self.path / _INDEX).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.path)}


@dataclasses.dataclass(frozen=True)
class _Writer:
    folder: Path
    token: str

    def encode(self, value: Any, name: str) -> Any:
        """JSON for a value; arrays and tables become files named after their place."""
        if isinstance(value, torch.Tensor):
            return {"__tensor__": self._array(value.detach().cpu().numpy(), name)}
        if isinstance(value, np.ndarray):
            return {"__array__": self._array(value, name)}
        if isinstance(value, pd.DataFrame):
            return {"__table__": self._table(value, name)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._record(value, name)
        return self._plain(value, name)

    def _plain(self, value: Any, name: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Path):
            return {"__path__": str(value)}
        if isinstance(value, Mapping):
            return {"__map__": [[k, self.encode(v, f"{name}.{k}")] for k, v in value.items()]}
        if isinstance(value, list | tuple):
            items = [self.encode(v, f"{name}.{i}") for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"__tuple__": items}
        raise TypeError(f"a record cannot hold a {type(value).__name__}: {name}")

    def _record(self, value: Any, name: str) -> dict[str, Any]:
        prefix = "" if name == "record" else f"{name}."
        return {
            "__record__": f"{type(value).__module__}:{type(value).__qualname__}",
            "fields": {
                field.name: self.encode(getattr(value, field.name), prefix + field.name)
                for field in dataclasses.fields(value)
                if field.init
            },
        }

    def _array(self, array: np.ndarray, name: str) -> str:
        path = self.folder / f"{name}-{self.token}.npy"
        array = np.ascontiguousarray(array).reshape(array.shape)
        with atomic_path(path) as temporary, temporary.open("wb", buffering=0) as stream:
            header = io.BytesIO()
            np.lib.format.write_array_header_2_0(
                header, np.lib.format.header_data_from_array_1_0(array)
            )
            stream.write(header.getvalue())
            # Not np.save: on a full disk it reports a count of items instead of the reason.
            data = memoryview(array.reshape(-1).view(np.uint8).data)
            for start in range(0, len(data), _BLOCK):
                _write_all(stream, data[start : start + _BLOCK])
        return path.name

    def _table(self, table: pd.DataFrame, name: str) -> str:
        path = self.folder / f"{name}-{self.token}.parquet"
        buffer = io.BytesIO()
        table.to_parquet(buffer)
        write_bytes(path, buffer.getvalue())
        return path.name


@dataclasses.dataclass(frozen=True)
class _Reader:
    folder: Path
    tags: ClassVar[dict[str, str]] = {
        "__tensor__": "_tensor",
        "__array__": "_array",
        "__table__": "_table",
        "__path__": "_path",
        "__map__": "_map",
        "__tuple__": "_tuple",
    }

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "__record__" in value:
            fields = {name: self.decode(item) for name, item in value["fields"].items()}
            return _record_class(value["__record__"])(**fields)
        ((tag, content),) = value.items()
        return getattr(self, self.tags[tag])(content)

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / name
        large = path.stat().st_size > _MAPPED_BYTES
        array: np.ndarray = np.load(path, mmap_mode="c" if large else None)
        return np.asarray(array)

    def _tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self._array(name))

    def _table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / name)

    def _path(self, text: str) -> Path:
        return Path(text)

    def _map(self, pairs: list[Any]) -> dict[Any, Any]:
        return {key: self.decode(item) for key, item in pairs}

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self.decode(item) for item in items)


def _record_class(name: str) -> type:
    module, _, qualname = name.partition(":")
    if module.split(".")[0] != PACKAGE:
        raise ValueError(f"{name} is not a record of {PACKAGE}")
    found = getattr(importlib.import_module(module), qualname)
    if not dataclasses.is_dataclass(found):
        raise ValueError(f"{name} is not a record")
    return found  # type: ignore[return-value]


def _write_all(stream: io.FileIO, data: memoryview) -> None:
    while data:
        data = data[stream.write(data) :]
