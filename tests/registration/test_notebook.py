"""The notebook on registration runs and finds what it says it finds."""

import asyncio
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(ROOT / "notebooks" / "registration.ipynb", as_version=4)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": sys.executable}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": ROOT}})
    asyncio.run(client.async_execute())
    shown = "".join(str(o) for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    assert "voxels that fold: 0" in shown
    assert "failed: (False,)" in shown
