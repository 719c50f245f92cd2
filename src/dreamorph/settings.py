"""Kedro's settings: hooks, configuration and where each study keeps its results."""

import dreamorph.tracking  # noqa: F401, I001  # first of all: it switches MLflow's telemetry off

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import OmegaConf

from dreamorph.errors import ParameterError
from dreamorph.hooks import LockHook, ParameterHook, ProgressHook, TrackingHook

_FILES = {".npz", ".csv", ".tsv"}


class StudyConfigLoader(OmegaConfigLoader):
    """Kedro's loader, which also knows the study: `${study:}` in the catalog keeps results apart.

    The study is, in this order: the runtime parameter `study`; `study` in the environment's own
    globals.yml; the last name of `cohort.manifest` or `cohort.path`, given at run time or in the
    parameters, of a file called manifest.csv that of its folder; `study` of the base globals.
    Raises ParameterError for an environment that does not exist, and for a study or a cohort's
    place that is given at run time but empty or no text.
    """

    _asked = False
    _study: str | None = None

    def __init__(self, conf_source: str | Path, env: str | None = None, **kwargs: Any) -> None:
        _check_environment(Path(conf_source), env)
        super().__init__(conf_source, env, **kwargs)
        _check_given(self.runtime_params or {})
        OmegaConf.register_new_resolver("study", self.study, replace=True)

    def study(self) -> str:
        """The study's name, safe as a folder's name."""
        if self._asked:  # by the parameters themselves, while they are read
            return self._named()
        if self._study is None:  # every entry of the catalog asks, and the answer takes a while
            self._study = self._named()
        return self._study

    def _named(self) -> str:
        given = self.runtime_params or {}
        name = given.get("study") or self._environment_study()
        path = None if name else self._cohort()
        if path:
            folder = Path(str(path)).expanduser().resolve()
            name = _name_of(folder)
        name = str(name or (self["globals"] or {}).get("study") or "")
        return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "study"

    def _cohort(self) -> Any:
        """What the parameters name as the cohort; real patients are never called simulated."""
        if self._asked:
            return None
        self._asked = True
        try:
            cohort = self["parameters"].get("cohort")
        except MissingConfigException:
            return None
        finally:
            self._asked = False
        known = cohort if isinstance(cohort, dict) else {}
        return known.get("manifest") or known.get("path")

    def _environment_study(self) -> Any:
        environment = self.env or self.default_run_env
        if not environment or environment == self.base_env:
            return None
        file = Path(self.conf_source) / environment / "globals.yml"
        name = OmegaConf.load(file).get("study") if file.is_file() else None
        if name is not None:
            _check_text(f"study in {file}", name)
        return name


def _name_of(cohort: Path) -> str:
    if cohort.name.lower() == "manifest.csv":
        return cohort.parent.name
    return cohort.stem if cohort.suffix in _FILES else cohort.name


def _check_environment(conf: Path, env: str | None) -> None:
    if env is None or not conf.is_dir() or (conf / env).is_dir():
        return
    known = sorted(p.name for p in conf.iterdir() if p.is_dir() and p.name[0] != ".")
    near = get_close_matches(env, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ParameterError(f"no environment '{env}' in {conf}: there are {', '.join(known)}{hint}")


def _check_given(given: Mapping[str, Any]) -> None:
    """An unset variable of the shell must not stand for simulated patients or for another name."""
    cohort = given.get("cohort")
    places = cohort if isinstance(cohort, Mapping) else {}
    named = {f"cohort.{key}": places[key] for key in ("path", "manifest") if key in places}
    if "study" in given:
        named["study"] = given["study"]
    for name, value in named.items():
        _check_text(name, value)


def _check_text(name: str, value: Any) -> None:
    if value is None or not str(value).strip():
        raise ParameterError(f"{name} is given without a value: give one, or leave {name} out")
    if not isinstance(value, str | Path):
        raise ParameterError(
            f"{name}: expected text, but it was read as {value!r}: quote it, as in"
            " --params \"study='2024_01'\""
        )


# The last one is asked first: what is asked wrongly neither locks a study nor opens a run, and a
# study stays locked until its run is closed.
HOOKS = (LockHook(), ProgressHook(), TrackingHook(), ParameterHook())
# TrackingHook replaces kedro-mlflow's own. Note the underscore: it is the distribution's name.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-telemetry")

CONFIG_LOADER_CLASS = StudyConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment changes single parameters, not whole groups of them.
    "merge_strategy": {"parameters": "soft"},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
