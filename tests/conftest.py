"""Fixtures that any test may use: real data, calm torch, a small Kedro project."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

ROOT = Path(__file__).parents[1]
REAL_DATA = "DREAMORPH_REAL_DATA"
REQUIRED = "DREAMORPH_REQUIRE_REAL_DATA"

hypothesis.settings.register_profile("local", deadline=None, max_examples=15)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=15, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session", autouse=True)
def torch_threads() -> Iterator[None]:
    """The same numbers on every machine, and no more than two cores."""
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; the test is skipped where there is none."""
    folder = Path(os.environ.get(REAL_DATA) or ROOT.parent / "shared" / "data")
    if folder.is_dir():
        return folder
    reason = f"no real data at {folder} (set {REAL_DATA} to the folder that holds it)"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped, with the reason, where there is no GPU."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def empty_tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database: making its tables takes seconds, copying it none."""
    from dreamorph.tracking import processes  # noqa: F401  # switches telemetry off first
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


MakeProject = Callable[..., Path]


@pytest.fixture
def make_project(
    tmp_path: Path, empty_tracking_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeProject]:
    """Make a small Kedro project with this project's settings, hooks and commands.

    Called with the source of its pipeline module (which defines `create_pipeline`), the text of
    its catalog and, if wanted, of its parameters and their root model.
    """
    project = tmp_path / "project"
    package = f"scratch_{abs(hash(tmp_path)):x}"

    def make(pipeline: str, catalog: str = "", parameters: str = "{}", model: str = "") -> Path:
        files = {
            "pyproject.toml": _PYPROJECT.format(package=package),
            "conf/base/catalog.yml": (ROOT / "conf/base/catalog.yml").read_text() + catalog,
            "conf/base/parameters.yml": parameters,
            "conf/base/mlflow.yml": (ROOT / "conf/base/mlflow.yml").read_text(),
            "conf/base/globals.yml": "study: simulated\n",
            "conf/local/.gitkeep": "",
            "conf/logging.yml": (ROOT / "conf/logging.yml").read_text(),
            f"src/{package}/__init__.py": "",
            f"src/{package}/settings.py": "from dreamorph.settings import *\n",
            f"src/{package}/cli.py": "from dreamorph.cli import cli\n",
            f"src/{package}/parts.py": pipeline,
            f"src/{package}/pipeline_registry.py": _REGISTRY.format(package=package),
        }
        if model:
            files[f"src/{package}/parameters.py"] = model
        for name, text in files.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (project / "mlruns").mkdir()
        shutil.copy(empty_tracking_database, project / "mlruns" / "mlflow.db")
        monkeypatch.chdir(project)
        return project

    # MLflow leaves the tracking address in the environment.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


_PYPROJECT = """
[tool.kedro]
package_name = "{package}"
project_name = "scratch"
kedro_init_version = "1.7.0"
source_dir = "src"
"""

_REGISTRY = """
from {package}.parts import create_pipeline

def register_pipelines():
    return {{"parts": create_pipeline(), "__default__": create_pipeline()}}
"""
