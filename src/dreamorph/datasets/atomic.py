"""Writing files so that a kill, a crash or a full disk never leaves half of one behind."""

import errno
import hashlib
import logging
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil
from kedro.io.core import DatasetError

from dreamorph.errors import DreamorphError

logger = logging.getLogger(__name__)

_TEMPORARY = re.compile(r"^\.tmp-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}-")
_ABANDONED_SECONDS = 24 * 3600
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# torch and SQLite say it in words of their own.
_SQLITE_FULL, _SQLITE_FORBIDDEN = "disk is full", "readonly database"
_NO_ROOM_WORDS = ("PytorchStreamWriter failed", "inline_container.cc", _SQLITE_FULL)
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class StorageError(DreamorphError, DatasetError):
    """A result cannot be written or read back.

    Also a Kedro `DatasetError`, so that Kedro hands it on as it is instead of wrapping it.
    """


class MissingDataError(StorageError):
    """A result is asked for that no earlier step has written."""


class DamagedItemError(StorageError, KeyError):
    """A stored file cannot be read. A `KeyError` too: `items.get(key)` treats it as absent."""

    def __str__(self) -> str:
        return str(self.args[0])


@cache
def host_id() -> str:
    """Eight hex digits that tell machines apart without naming them."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; what is written there becomes `target` in one step.

    The temporary name keeps the target's suffixes, since writers choose formats by them. It may
    become a file or a folder. On any error, an interrupt included, it is removed and `target`
    stays as it was. Raises StorageError where the disk is full or must not be written.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        stamp = f".tmp-{host_id()}-{os.getpid()}-{secrets.token_hex(4)}-"
        # The end of a long name matters (suffixes), its beginning does not.
        temporary = target.parent / (stamp + target.name[-100:])
        try:
            yield temporary
            if temporary.is_dir():
                _replace_folder(temporary, target)
            else:
                _sync(temporary)
                temporary.replace(target)
            _sync(target.parent)
        finally:
            _remove(temporary)


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn a full or forbidden disk, however deep in the chain of causes, into one clear line."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        line = explain_os_error(error, target)
        if line is None:
            raise
        raise StorageError(line) from error


def explain_os_error(error: BaseException, target: Path | None = None) -> str | None:
    """One line for a full or forbidden disk among an error's causes, else None."""
    cause: BaseException | None = error
    while cause is not None:
        name = target or _file_of(cause)
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _NO_ROOM or any(words in str(cause) for words in _NO_ROOM_WORDS):
            return (
                f"no space left to write {name} ({_free(target)}): free some space, "
                "then the same command resumes where it stopped"
            )
        if number in _FORBIDDEN or _SQLITE_FORBIDDEN in str(cause):
            return f"not allowed to write {name}: check the owner and mode of its folder"
        cause = cause.__cause__ or cause.__context__
    return None


def _file_of(error: BaseException) -> str:
    """What could not be written: of a copy, where to; of SQLite, the only database there is."""
    if any(words in str(error) for words in (_SQLITE_FULL, _SQLITE_FORBIDDEN)):
        return "the MLflow database"
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return str(named) if named else "the results"


def write_bytes(target: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def sweep(folder: Path) -> None:
    """Remove temporary files that dead processes left in a folder; live writers keep theirs."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        match = _TEMPORARY.match(path.name)
        if match and _abandoned(path, match["host"], int(match["pid"])):
            logger.info("removed %s, left by a process that was stopped", path.name)
            _remove(path)


def _abandoned(path: Path, host: str, pid: int) -> bool:
    if host == host_id():
        return not psutil.pid_exists(pid)
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    return False


def _replace_folder(temporary: Path, target: Path) -> None:
    """Swap a folder in. Between the two renames the target is absent, never half there."""
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            _sync(path)
    old = temporary.with_name(f"{temporary.name}-old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    _remove(old)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _free(target: Path | None) -> str:
    with suppress(OSError, AttributeError):
        folder = next(p for p in target.parents if p.exists())  # type: ignore[union-attr]
        return f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB free"
    return "disk or quota is full"
