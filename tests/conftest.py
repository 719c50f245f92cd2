"""Fixtures that any test may use: real data, calm torch, a small Kedro project."""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# read when torch is first imported; dreamorph says so too, where it comes first
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch

from tests import parts

# before any program is read: without a GPU they are interpreted
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

ROOT = Path(__file__).parents[1]
REAL_DATA = "DREAMORPH_REAL_DATA"
REQUIRED = "DREAMORPH_REQUIRE_REAL_DATA"

hypothesis.settings.register_profile("local", deadline=None, max_examples=15)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=15, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session", autouse=True)
def torch_threads() -> Iterator[None]:
    """No more than two cores, and on any machine sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As runs register: several threads share out the sums of a volume by how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    from dreamorph.tracking.processes import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def project(tmp_path: Path, empty_tracking_database: Path) -> Iterator[Path]:
    """A small Kedro project, the pipeline of tests/parts.py in this project's shell."""
    with small_project(tmp_path, empty_tracking_database) as root:
        yield root


@contextmanager
def small_project(folder: Path, database: Path, nets: bool = False) -> Iterator[Path]:
    """Make the small project in a folder and make it the working directory.

    To log nets as models takes a second each: on request only.
    """
    root = folder / "project"
    package = f"scratch_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    for name, text in _files(package).items():
        if not nets:
            text = text.replace(", net: PACKAGE.parts.build", "")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("PACKAGE", package))
    (root / "mlruns").mkdir()
    shutil.copy(database, root / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # MLflow leaves its address in the environment, Kedro the project on the path.
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.setattr(sys, "path", list(sys.path))
        yield root
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def _files(package: str) -> dict[str, str]:
    source = f"src/{package}"
    conf = {
        f"conf/{name}": (ROOT / "conf" / name).read_text()
        for name in ("base/mlflow.yml", "base/globals.yml", "logging.yml")
    }
    return conf | {
        "pyproject.toml": _PYPROJECT,
        ".telemetry": (ROOT / ".telemetry").read_text(),
        "conf/base/catalog.yml": (ROOT / "conf/base/catalog.yml").read_text() + parts.CATALOG,
        "conf/base/parameters.yml": parts.PARAMETERS,
        "conf/hippocampus/globals.yml": "study: hippocampus\n",
        "conf/hippocampus/parameters.yml": "work: {items: 2}\n",
        "conf/local/.gitkeep": "",
        f"{source}/__init__.py": "",
        f"{source}/settings.py": "from dreamorph.settings import *\n",
        f"{source}/cli.py": "from dreamorph.cli import cli\n",
        f"{source}/parts.py": Path(parts.__file__).read_text(),
        f"{source}/parameters.py": parts.MODEL,
        f"{source}/pipeline_registry.py": _REGISTRY,
    }


_PYPROJECT = """
[tool.kedro]
package_name = "PACKAGE"
project_name = "scratch"
kedro_init_version = "1.7.0"
source_dir = "src"
"""

_REGISTRY = """
from PACKAGE.parts import create_pipeline

def register_pipelines():
    return {"parts": create_pipeline(), "__default__": create_pipeline()}
"""
