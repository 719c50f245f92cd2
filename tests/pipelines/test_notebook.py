"""The notebook walks through a finished run without an error."""

import asyncio
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pipelines.conftest import ROOT, Workplace


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_the_walkthrough_runs(finished: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMORPH_ENV", "tiny")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(Path(ROOT, "notebooks", "walkthrough.ipynb"), as_version=4)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": sys.executable}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": finished.root}})
    asyncio.run(client.async_execute())
    shown = str([o for c in notebook.cells if c.cell_type == "code" for o in c.outputs])
    for word in ("passed the gate", "Recipe(dream=", "unexplained", "elastic", "cohort_constraint"):
        assert word in shown
