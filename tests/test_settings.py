"""Which study a run belongs to, and what a wrong environment is told."""

from pathlib import Path
from typing import Any

import pytest

from dreamorph.errors import ParameterError
from dreamorph.settings import CONFIG_LOADER_ARGS, StudyConfigLoader


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    files = {
        "base/globals.yml": "study: simulated",
        "base/catalog.yml": "a: {type: x, filepath: 'data/${study:}/a'}",
        "base/parameters.yml": "a: {b: 1, c: 2}\ntitle: '${study:}'",
        "hippocampus/globals.yml": "study: hippocampus",
        "hippocampus/parameters.yml": "a: {b: 3}",
        "plain/parameters.yml": "a: {b: 4}",
        "local/.gitkeep": "",
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "conf"


def loader(conf: Path, env: str | None = None, **runtime: Any) -> StudyConfigLoader:
    return StudyConfigLoader(str(conf), env=env, runtime_params=runtime, **CONFIG_LOADER_ARGS)


@pytest.mark.parametrize(
    ("env", "runtime", "study"),
    [
        (None, {}, "simulated"),
        ("plain", {}, "simulated"),
        ("base", {}, "simulated"),
        ("hippocampus", {}, "hippocampus"),
        ("hippocampus", {"cohort": {"path": "/data/x"}}, "hippocampus"),
        ("hippocampus", {"study": "mine"}, "mine"),
        (None, {"cohort": {"path": "/data/My study (2)/"}}, "My_study_2"),
        (None, {"cohort": {"path": "/data/adrenal_64.npz"}}, "adrenal_64"),
        (None, {"cohort": {"path": "/data/Set.v2"}}, "Set.v2"),
        ("plain", {"cohort": {"path": "/data/x"}}, "x"),
        (None, {"cohort": {"manifest": "/data/my_study.csv"}}, "my_study"),
        (None, {"cohort": {"manifest": "/data/ward_7/manifest.csv"}}, "ward_7"),
        (None, {"cohort": {"path": "/data/ward_7/Manifest.csv"}}, "ward_7"),
        (None, {"cohort": {"manifest": "/data/a.csv", "path": "/data/b"}}, "a"),
        (None, {"cohort": {"other": 1}}, "simulated"),
        (None, {"study": "2024_01"}, "2024_01"),
        (None, {"study": "../../etc"}, "etc"),
    ],
)
def test_the_study_keeps_results_apart(
    conf: Path, env: str | None, runtime: dict, study: str
) -> None:
    made = loader(conf, env, **runtime)
    assert made.study() == study
    assert made["catalog"]["a"]["filepath"] == f"data/{study}/a"


@pytest.mark.parametrize("value", [None, "", " "])
@pytest.mark.parametrize("name", ["study", "cohort.path", "cohort.manifest"])
def test_an_unset_variable_is_no_value(conf: Path, name: str, value: Any) -> None:
    given = {"study": value} if name == "study" else {"cohort": {name.partition(".")[2]: value}}
    with pytest.raises(ParameterError, match=f"{name} is given without a value: give one"):
        loader(conf, **given)


def test_what_was_read_as_a_number_is_to_be_quoted(conf: Path) -> None:
    with pytest.raises(ParameterError, match=r"study: expected text, but .* 202401: quote it"):
        loader(conf, study=202401)
    with pytest.raises(ParameterError, match=r"cohort\.path: expected text"):
        loader(conf, cohort={"path": 202401})
    (conf / "hippocampus" / "globals.yml").write_text("study: 2024_01")
    with pytest.raises(ParameterError, match=r"study in .*globals\.yml: expected text"):
        loader(conf, "hippocampus").study()


def test_a_cohort_of_the_parameter_files_names_its_study(conf: Path) -> None:
    (conf / "local" / "parameters.yml").write_text("cohort: {path: /data/ward_7}")
    assert loader(conf).study() == "ward_7"
    assert loader(conf)["parameters"]["title"] == "ward_7"
    assert loader(conf, study="mine").study() == "mine"


def test_the_study_is_worked_out_once(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry of the catalog asks for it, and each answer would read all parameters."""
    made, named, asked = loader(conf), StudyConfigLoader._named, []
    monkeypatch.setattr(StudyConfigLoader, "_named", lambda own: asked.append(1) or named(own))
    assert made.study() == "simulated"
    before = len(asked)
    assert made["catalog"]["a"]["filepath"] == "data/simulated/a"
    assert made.study() == "simulated"
    assert len(asked) == before


def test_an_environment_changes_single_parameters(conf: Path) -> None:
    assert loader(conf, "hippocampus")["parameters"]["a"] == {"b": 3, "c": 2}
    assert loader(conf, "hippocampus", a={"c": 5})["parameters"]["a"] == {"b": 3, "c": 5}


def test_an_unknown_environment_names_the_known_ones(conf: Path) -> None:
    with pytest.raises(ParameterError) as caught:
        loader(conf, "hipocampus")
    line = str(caught.value)
    assert "there are base, hippocampus, local, plain; did you mean 'hippocampus'?" in line
    with pytest.raises(ParameterError, match="there are base"):
        loader(conf, "zzz")
