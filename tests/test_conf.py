"""The shipped configuration: every environment loads, and says only what the code knows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog

from dreamorph.hooks import parameters_model
from dreamorph.parameters import Parameters
from dreamorph.pipeline_registry import STEPS
from dreamorph.settings import CONFIG_LOADER_ARGS, StudyConfigLoader
from dreamorph.tracking.declared import Declaration
from dreamorph.tracking.failures import check_parameters

CONF = Path(__file__).parents[1] / "conf"
ENVIRONMENTS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "local")


def loader(env: str) -> StudyConfigLoader:
    return StudyConfigLoader(str(CONF), env=env, **CONFIG_LOADER_ARGS)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_parameters_are_known(env: str) -> None:
    model = parameters_model("dreamorph")
    assert model is not None
    raw = dict(loader(env)["parameters"])
    check_parameters(raw, model)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_catalog_entries_and_their_tracking_are_valid(env: str) -> None:
    conf = loader(env)
    catalog = DataCatalog.from_config(conf["catalog"])
    for name, entry in conf["catalog"].items():
        if name != "{default}":
            assert catalog.get(name) is not None
            declaration = (entry.get("metadata") or {}).get("mlflow")
            if declaration is not None:
                Declaration.model_validate(declaration)
            where = Path(entry.get("path") or entry.get("filepath"))
            layer, *apart = where.parts[1:]
            assert layer != "01_raw" or apart.pop(0) == "simulated"
            assert apart[0] == conf.study(), f"{name} is not kept apart by study"


def test_defaults_from_python_are_those_of_a_run() -> None:
    """But for the steps of a first look, and for what says where results go."""
    given = Parameters.model_validate(
        {k: v for k, v in loader("base")["parameters"].items() if k in Parameters.model_fields}
    ).model_dump()
    own = Parameters().model_dump()
    assert (given["training"].pop("steps"), own["training"].pop("steps")) == (400, 1000)
    assert given | {"report": None} == own | {"report": None}


NAMES = ("None", "NA", "n/a", "null", "nan", "a")
NAME_COLUMNS = {
    "case_key": ("case", "name"),
    "quarantine": ("case",),
    "case_table": ("case", "subject", "class"),
    "split": ("case", "subject", "class"),
    "affine_plan": ("key",),
    "pair_plan": ("key", "affine_key"),
    "pair_table": ("key", "fixed_case", "fixed_subject", "moving_case", "moving_subject"),
    "dream_plan": ("source", "source_subject", "class", "prior", "key"),
    "dream_table": ("source", "source_subject", "class", "prior", "key"),
    "tuning_scores": ("subject",),
    "cases": ("case", "subject", "class", "predicted", "label_name"),
    "removal": ("case",),
}


@pytest.mark.parametrize("name", NAME_COLUMNS)
def test_names_that_look_like_nothing_survive_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = DataCatalog.from_config(loader("base")["catalog"])
    monkeypatch.chdir(tmp_path)
    columns = NAME_COLUMNS[name]
    table = pd.DataFrame({column: list(NAMES) for column in columns})
    catalog.save(name, table.assign(value=[0.5, np.nan] * 3))
    read = catalog.load(name)
    for column in columns:
        assert read[column].tolist() == list(NAMES)
    if name not in ("case_key", "quarantine"):  # all texts
        assert read["value"].isna().tolist() == [False, True] * 3


#: What pandas would read as numbers or truth values; the last as one number, far too large.
TYPED = (("007", "08"), ("1.10", "1.1"), ("TRUE", "FALSE"), ("-1", "+1"), ("12e4567890123456", "1"))


@pytest.mark.parametrize("name", NAME_COLUMNS)
def test_names_that_look_like_numbers_survive_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = DataCatalog.from_config(loader("base")["catalog"])
    monkeypatch.chdir(tmp_path)
    for names in TYPED:
        catalog.save(name, pd.DataFrame({column: names for column in NAME_COLUMNS[name]}))
        read = catalog.load(name)
        assert {column: tuple(read[column]) for column in read} == dict.fromkeys(read, names)


def test_mlflow_stays_in_the_project_and_off_the_file_store() -> None:
    server = loader("base")["mlflow"]["server"]
    assert server["mlflow_tracking_uri"].startswith("sqlite:///")


def test_the_default_pipeline_is_all_steps() -> None:
    bootstrap_project(CONF.parent)
    assert set(STEPS) | {"__default__"} == set(pipelines)
    nodes = {node.name for step in STEPS for node in pipelines[step].nodes}
    assert {node.name for node in pipelines["__default__"].nodes} == nodes


def test_telemetry_is_refused_outside_the_project_too(tmp_path: Path) -> None:
    code = (
        "import os; from kedro.framework.cli.cli import _init_plugins; _init_plugins();"
        " print(os.environ['KEDRO_DISABLE_TELEMETRY'])"
    )
    bare = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True
    )
    assert told.stdout.split()[-1] == "true", told.stderr


def test_telemetry_is_refused() -> None:
    assert (CONF.parent / ".telemetry").read_text().strip() == "consent: false"
