"""Any Kedro dataset made atomic, and objects that save themselves."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from dreamorph.datasets import AtomicFile, MissingDataError, ObjectDataset, PriorDataset
from dreamorph.prior import DeformationPrior, PriorConfig


class Folder:
    """Saves itself as a folder of one file."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, path: Path) -> None:
        path.mkdir()
        (path / "text").write_text(self.text)

    @classmethod
    def load(cls, path: Path) -> "Folder":
        return cls((path / "text").read_text())


@pytest.mark.parametrize(
    ("dataset", "data"),
    [
        ({"type": "pandas.CSVDataset", "save_args": {"index": False}}, pd.DataFrame({"a": [1]})),
        ("json.JSONDataset", {"a": [1, None]}),
        ("text.TextDataset", "<html>ü</html>"),
    ],
)
def test_wrapped_datasets(tmp_path: Path, dataset: str | dict, data: object) -> None:
    file = AtomicFile(str(tmp_path / "new" / "x.any"), dataset)
    assert not file.exists()
    with pytest.raises(MissingDataError, match="kedro run"):
        file.load()
    for _ in range(2):
        file.save(data)
    loaded = file.load()
    if isinstance(data, pd.DataFrame):
        pd.testing.assert_frame_equal(loaded, data)
    else:
        assert loaded == data
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.any"]
    assert file.exists()


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    file = AtomicFile(str(tmp_path / "x.json"), "json.JSONDataset")
    file.save({"a": 1})
    with pytest.raises(Exception, match="not JSON serializable"):
        file.save({"a": object()})
    assert file.load() == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_objects_that_write_folders(tmp_path: Path) -> None:
    dataset = ObjectDataset(str(tmp_path / "object"), f"{__name__}.Folder")
    for text in ("old", "new"):
        dataset.save(Folder(text))
    assert dataset.load().text == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["object"]


def test_a_prior(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    fields = torch.randn(4, 3, 4, 4, 4, generator=generator)
    prior = DeformationPrior(PriorConfig()).fit(fields, (8.0, 8.0, 8.0))
    dataset = PriorDataset(str(tmp_path / "prior.pt"))
    dataset.save(prior)
    assert dataset.load() is prior  # to read it would mean to fit it again
    dataset.release()
    read = dataset.load()
    assert read is not prior
    assert read.fingerprint == prior.fingerprint
    assert dataset.load() is read
    other = DeformationPrior(PriorConfig()).fit(2 * fields, (8.0, 8.0, 8.0))
    PriorDataset(str(tmp_path / "prior.pt")).save(other)  # another process
    assert dataset.load().fingerprint == other.fingerprint
    (tmp_path / "prior.pt").unlink()
    with pytest.raises(MissingDataError):
        dataset.load()
