"""What leaves the machine by tracking or by the terminal names no patient and no place."""

import gzip
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from dreamorph.tracking.anonymous import NOBODY
from tests.pipelines.conftest import Workplace, make_workplace
from tests.volumes import dicoms

NAMES = [
    "SMITH_JOHN_1950", "MUELLER_ANNA_1961", "DOE_JANE_1944", "NGUYEN_VAN_1972", "ROSSI_MARIO_1958",
    "KOWALSKA_EWA_1949", "SILVA_JOAO_1966", "TANAKA_YUKI_1975", "IVANOV_PETR_1953", "BERG_LIV_1969",
]  # fmt: skip
FOLDER = "WARD_7_PATIENTS"
#: Who runs it, from where: planted, so that the test means the same on every machine.
USER, HOME = "DR_ELISABETH_WINTER", "HOME_OF_WINTER"


@pytest.fixture(scope="module", params=["nifti", "dicom"])
def told(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Workplace, str]:
    """A finished run over files named after patients, and what it said on the terminal."""
    home = tmp_path_factory.mktemp("homes") / HOME
    workplace = make_workplace(home / "project")
    write = {"nifti": write_nifti, "dicom": write_dicom}[request.param]
    write(workplace.root / FOLDER)
    # As installed for one user: the command itself lies in that home.
    command = home / "bin" / "kedro"
    command.parent.mkdir()
    command.write_text("from kedro.framework.cli import main\nmain()\n")
    planted = {"HOME": str(home), **dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME"), USER)}
    parameters = f"cohort.path={workplace.root / FOLDER},study=private"
    result = subprocess.run(
        [sys.executable, str(command), "run", "--env", "tiny", "--params", parameters],
        cwd=workplace.root,
        env=workplace.environment | planted,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return workplace, result.stderr + result.stdout


def patients() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, image and label of each: a ball in a brighter middle."""
    generator = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 24, 18)], indexing="ij"))
    for name in NAMES:
        centre = np.array([9.5, 11.5, 8.5]) + generator.uniform(-1, 1, 3)
        distance = np.linalg.norm(grid - centre[:, None, None, None], axis=0)
        ball = distance < 5 + generator.uniform(-1, 1)
        image = np.clip(60 - 4 * distance, 5, None) + 40 * ball + generator.normal(0, 2, ball.shape)
        yield name, image, ball


def write_nifti(folder: Path) -> None:
    """Images and labels under patients' names, which stand in the headers as well; stored LPS."""
    for name, image, ball in patients():
        for part, array in (("images", image.astype(np.float32)), ("labels", ball.astype("u1"))):
            volume = nibabel.Nifti1Image(array, np.diag([-3.0, -3.0, 3.0, 1.0]))
            volume.header["descrip"] = f"scan of {name}".encode()
            volume.header["intent_name"] = name[:15].encode()
            volume.header["aux_file"] = f"{name}.dcm".encode()[:23]
            path = folder / part / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(volume, path)


def write_dicom(folder: Path) -> None:
    """Series and SEGs that name patients in folders, tags and a segment; one lacks a slice."""
    for name, image, ball in patients():
        stored = np.clip(image * 10, 0, 2000).astype(np.uint16)
        slices = dicoms.series(
            folder / name / "MR", stored, patient=name, name=name.replace("_", "^"),
            description=name, modality="MR", spacing=(3.0, 3.0, 3.0),
        )  # fmt: skip
        dicoms.seg(folder / name / "SEG", slices, {"ball": ball, f"node of {name}": ~ball})
    next((folder / NAMES[-1] / "MR").glob("*8*")).unlink()


#: Columns that say where the artifacts of an experiment, a run or a model lie.
ADDRESSES = {"artifact_location", "artifact_uri"}


def public(row: sqlite3.Row) -> dict[str, Any]:
    return {name: value for name, value in dict(row).items() if name not in ADDRESSES}


def secrets(workplace: Workplace) -> list[bytes]:
    """What must not be found: names and their beginnings, folders, the user and their home."""
    words = [name.rpartition("_")[0] for name in NAMES]
    words += [str(workplace.root), FOLDER, USER, HOME]
    return [word.encode() for word in words]


def contents(file: Path) -> bytes:
    data = file.read_bytes()
    if file.name == "MLmodel":  # MLflow writes down where in its own store a model lies
        return re.sub(rb"(?m)^artifact_path: file:.*$", b"", data)
    return gzip.decompress(data) if file.suffix == ".gz" else data


def found(data: bytes, words: list[bytes]) -> list[bytes]:
    """Words within the data, whatever their case."""
    low = data.lower()
    return [word for word in words if word.lower() in low]


def test_artifacts_name_nobody_and_no_place(told: tuple[Workplace, str]) -> None:
    workplace, _ = told
    files = [f for f in (workplace.root / "mlruns" / "artifacts").rglob("*") if f.is_file()]
    assert {"report.html", "cases.json", "split.json", "pairs.json"} <= {f.name for f in files}
    assert any(f.suffix == ".pt2" for f in files)
    words = secrets(workplace)
    leaks = {str(f.relative_to(workplace.root)): found(contents(f), words) for f in files}
    assert {name: words for name, words in leaks.items() if words} == {}


def test_the_tracking_database_names_nobody(told: tuple[Workplace, str]) -> None:
    """Its only addresses are those of the artifacts, which MLflow needs to find them."""
    workplace, _ = told
    rows = []
    with sqlite3.connect(workplace.root / "mlruns" / "mlflow.db") as database:
        database.row_factory = sqlite3.Row
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (name,) in tables:
            found_rows = database.execute(f'select * from "{name}"').fetchall()
            rows += [(name, public(row)) for row in found_rows]
    assert {"params", "tags", "runs", "logged_models"} <= {name for name, _ in rows}
    words = secrets(workplace)
    leaks = [(row, hit) for row in rows if (hit := found(repr(row).encode(), words))]
    assert leaks == []
    tags = [row for name, row in rows if name == "tags"]
    for key, value in NOBODY.items():
        assert {tag["value"] for tag in tags if tag["key"] == key} == {value}
        runs = {row["run_uuid"] for name, row in rows if name == "runs"}
        assert {tag["run_uuid"] for tag in tags if tag["key"] == key} == runs
        assert len(runs) >= 8  # the run, four arms or more, two averages, the atlas
    assert {t["value"] for t in tags if t["key"] == "runner"} == {"SequentialRunner"}


def test_dreams_carry_nothing_of_their_source_but_the_image(told: tuple[Workplace, str]) -> None:
    workplace, _ = told
    files = sorted(workplace.root.glob("data/05_model_input/private/dreams/*.nii.gz"))
    assert files
    words = secrets(workplace)
    for file in files:
        assert not found(contents(file), words)
        header = nibabel.load(file).header
        assert b"synthetic" in bytes(header["descrip"])
        assert not bytes(header["intent_name"]).strip(b"\0")
        assert not bytes(header["aux_file"]).strip(b"\0")


def test_the_terminal_names_nobody(told: tuple[Workplace, str]) -> None:
    """The last lines say where the report is, on this machine and to this user."""
    workplace, said = told
    lines = [line for line in said.splitlines() if "report: " not in line]
    words = secrets(workplace)
    assert [line for line in lines if found(line.encode(), words)] == []
    assert os.linesep in said
