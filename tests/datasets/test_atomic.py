"""Nothing half-written stays behind, and errors are one clear line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamorph.datasets.atomic import (
    StorageError,
    atomic_path,
    explain_os_error,
    host_id,
    sweep,
    write_bytes,
)

DEAD_PID = 2**22 + 1  # above the largest number Linux gives


def test_the_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)):
        _write_half(target, error)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def _write_half(target: Path, error: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for text in ("old", "new"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_sweep_removes_what_dead_processes_left_only(tmp_path: Path) -> None:
    host, other = host_id(), "0" * 8
    names = {
        f".tmp-{host}-{DEAD_PID}-00000000-a.pt": False,
        f".tmp-{host}-{os.getpid()}-00000000-a.pt": True,
        f".tmp-{other}-{DEAD_PID}-00000000-a.pt": True,  # another machine may still write it
        ".tmp-foreign": True,
        "a.pt": True,
    }
    for name in names:
        (tmp_path / name).write_text("")
    os.utime(tmp_path / f".tmp-{other}-{DEAD_PID}-00000000-a.pt")
    sweep(tmp_path)
    sweep(tmp_path / "absent")
    assert {p.name for p in tmp_path.iterdir()} == {name for name, kept in names.items() if kept}


def test_sweep_removes_old_files_of_other_machines(tmp_path: Path) -> None:
    path = tmp_path / f".tmp-{'0' * 8}-1-00000000-a.pt"
    path.write_text("")
    os.utime(path, (0, 0))
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_disk_errors_are_one_line(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError) as caught, atomic_path(tmp_path / "a.pt"):
        raise RuntimeError("wrapped") from OSError(number, os.strerror(number))
    line = str(caught.value)
    assert "a.pt" in line
    assert "\n" not in line
    assert ("space" in line) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_other_errors_are_not_explained() -> None:
    assert explain_os_error(OSError(errno.EIO, "io")) is None
    assert explain_os_error(ValueError("x")) is None


def test_words_of_torch_and_sqlite_mean_a_full_disk() -> None:
    assert "no space" in str(explain_os_error(RuntimeError("PytorchStreamWriter failed writing")))
    full = str(explain_os_error(RuntimeError("database or disk is full")))
    assert full.startswith("no space left to write the MLflow database")
    forbidden = str(explain_os_error(RuntimeError("attempt to write a readonly database")))
    assert forbidden.startswith("not allowed to write the MLflow database")


def test_of_a_copy_the_target_is_named() -> None:
    line = str(explain_os_error(OSError(errno.ENOSPC, "full", "from.json", None, "to.json")))
    assert "to.json" in line
    assert "from.json" not in line


FULL = """
import resource, sys
from pathlib import Path
import numpy, pandas, torch
from dreamorph.datasets import *
from dreamorph.errors import DreamorphError
from dreamorph.spatial import SpatialTransform
folder = Path(sys.argv[1])

class Saved:
    def save(self, path):
        torch.save({"a": torch.zeros(100_000)}, path)

big = torch.zeros(100_000)
cases = {
    "store": (AtomicStore(str(folder / "store")), {"a": {"x": big}}),
    "nifti": (NiftiStore(str(folder / "nifti")), {"a": {"image": torch.rand(40, 40, 40),
                                                        "affine": numpy.eye(4)}}),
    "record": (RecordDataset(str(folder / "record")),
               SpatialTransform.identity(1, (40, 40, 40), (1.0, 1.0, 1.0))),
    "object": (PriorDataset(str(folder / "object" / "prior.pt")), Saved()),
    "file": (AtomicFile(str(folder / "file" / "a.csv"), "pandas.CSVDataset"),
             pandas.DataFrame({"a": range(50_000)})),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for name, (dataset, data) in cases.items():
    if name == "record":  # an identity holds nothing large: give it a field
        import dataclasses
        data = dataclasses.replace(data, velocity=torch.zeros(1, 3, 40, 40, 40))
    try:
        dataset.save(data)
    except DreamorphError as error:
        print(name, type(error).__name__, "no space left" in str(error), "\\n" in str(error))
    left = [p.name for p in (folder / name).rglob("*") if p.is_file()]
    print(name, "left", left)
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files makes real writes fail, as a full disk would."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("store", "nifti", "record", "object", "file"):
        assert f"{name} StorageError True False\n{name} left []\n" in done.stdout


def test_write_bytes(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
