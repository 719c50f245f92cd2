"""What a user does wrong ends in one clear line, a failing exit code, and nothing half-written."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.pipelines.conftest import Workplace


def write_cohort(
    folder: Path, n: int = 6, labelled: bool = True, subjects: int | None = None
) -> None:
    """A plain folder of small volumes with a ball as label."""
    generator = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(12)] * 3, indexing="ij"))
    for k in range(n):
        centre = 5.5 + generator.uniform(-1, 1, 3)
        ball = np.linalg.norm(grid - centre[:, None, None, None], axis=0) < 3
        image = ball * 50 + generator.normal(100, 5, ball.shape)
        name = f"s{(k % subjects if subjects else k) + 1}_scan{k + 1}"
        save(folder / "images" / f"{name}.nii.gz", image.astype(np.float32))
        if labelled:
            save(folder / "labels" / f"{name}.nii.gz", ball.astype(np.uint8))


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def empty(folder: Path) -> None:
    folder.mkdir()


def one_subject(folder: Path) -> None:
    write_cohort(folder, subjects=1)


def three_subjects(folder: Path) -> None:
    write_cohort(folder, n=3)


def no_label(folder: Path) -> None:
    write_cohort(folder, labelled=False)


def all_corrupt(folder: Path) -> None:
    write_cohort(folder)
    for file in folder.glob("images/*"):
        file.write_bytes(file.read_bytes()[:200])


def one_class(folder: Path) -> None:
    folder.mkdir()
    shapes = np.zeros((9, 16, 16, 16), np.uint8)
    shapes[:, 4:10, 4:10, 4:10] = 1
    shapes[np.arange(9), np.arange(9), 0, 0] = 1
    parts = {
        f"{part}_{what}": value
        for part, rows in (("train", slice(0, 3)), ("val", slice(3, 6)), ("test", slice(6, 9)))
        for what, value in (("images", shapes[rows]), ("labels", np.zeros((3, 1), np.uint8)))
    }
    np.savez(folder / "data.npz", **parts)


@pytest.mark.parametrize(
    ("make", "parameters", "words"),
    [
        (None, "cohort.path=nowhere", ["nowhere"]),
        (empty, "cohort.path=study", ["study", "msd", "nnunet", "folder"]),
        (
            one_subject,
            r"cohort.path=study,cohort.subject.regex=(s\d)_",
            ["only one labelled subject", "expected at least 2"],
        ),
        (
            three_subjects,
            "cohort.path=study",
            ["at least 3 volumes", "2 to train, 0"],
        ),
        (no_label, "cohort.path=study", ["no case has a label map or class"]),
        (all_corrupt, "cohort.path=study", ["usable cases: 0"]),
        (one_class, "cohort.path=study/data.npz", ["expected at least 2 classes"]),
        (None, "cohort.pth=study", ["cohort.pth", "cohort.path"]),
        (None, "trainin.steps=3", ["trainin", "training"]),
        (None, "training.steps=many", ["training.steps"]),
        (None, "split.train_subjects=500", ["split.train_subjects asks for 500"]),
    ],
)
def test_one_clear_line(
    workplace: Workplace, make: Callable[[Path], None] | None, parameters: str, words: list[str]
) -> None:
    if make is not None:
        make(workplace.root / "study")
    result = workplace.run("--env", "tiny", "--pipelines", "ingest", "--params", parameters)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last, last
    assert not list(workplace.root.glob("data/03_primary/*/cohort/record.json"))


def test_one_corrupt_volume_is_set_aside_and_the_rest_goes_on(workplace: Workplace) -> None:
    folder = workplace.root / "study"
    write_cohort(folder)
    broken = sorted(folder.glob("images/*"))[2]
    broken.write_bytes(broken.read_bytes()[:300])
    result = workplace.run(
        "--env", "tiny", "--pipelines", "ingest", "--params", "cohort.path=study,study=study"
    )
    assert result.returncode == 0, result.stderr
    (table,) = workplace.root.glob("data/02_intermediate/study/quarantine.csv")
    rows = table.read_text().splitlines()
    assert len(rows) == 2
    assert "quarantined" in rows[1]
    assert (workplace.root / "data/03_primary/study/cohort/record.json").is_file()
