"""Fingerprints of contents: the same inputs and parameters give the same sixteen hex digits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import BaseModel

LENGTH = 16


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def fingerprint(*parts: Any) -> str:
    """Hash any nesting of plain values, configurations, arrays, tensors and files.

    A `Path` stands for the bytes of the file it names. Raises TypeError for other types, so that
    nothing is hashed by its memory address.
    """
    digest = hashlib.sha256()
    for part in parts:
        _update(digest, part)
    return digest.hexdigest()[:LENGTH]


def _update(digest: _Digest, part: Any) -> None:
    part = _plain(part)
    if isinstance(part, np.ndarray):
        digest.update(f"array:{part.dtype}:{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    elif isinstance(part, Path):
        _update_file(digest, part)
    elif isinstance(part, Mapping):
        digest.update(f"map:{len(part)}".encode())
        for key in sorted(part, key=str):
            _update(digest, str(key))
            _update(digest, part[key])
    elif isinstance(part, str | int | float | bool) or part is None:
        digest.update(f"{type(part).__name__}:{json.dumps(part)};".encode())
    elif isinstance(part, Sequence):
        digest.update(f"list:{len(part)}".encode())
        for item in part:
            _update(digest, item)
    else:
        raise TypeError(f"cannot fingerprint a {type(part).__name__}")


def _plain(part: Any) -> Any:
    if isinstance(part, torch.Tensor):
        return part.detach().cpu().numpy()
    if isinstance(part, BaseModel):
        return part.model_dump(mode="json")
    return part.item() if isinstance(part, np.generic) else part


def _update_file(digest: _Digest, path: Path) -> None:
    digest.update(b"file:")
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
