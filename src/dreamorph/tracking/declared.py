"""Catalog entries say what is tracked: `metadata: {mlflow: {kind: ..., ...}}`.

One place reads the declarations and logs the data; nodes and datasets know nothing of MLflow.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from kedro.io import DataCatalog
from kedro.utils import load_obj
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from pydantic import ValidationError

from dreamorph.config import Config
from dreamorph.errors import ParameterError
from dreamorph.tracking.arms import Arm, log_arm
from dreamorph.tracking.failures import describe_validation
from dreamorph.tracking.metrics import check_metrics, log_metrics

logger = logging.getLogger(__name__)


class Declaration(Config):
    """How one catalog entry goes into MLflow.

    kind
        artifact: the file or folder as it is, under `folder`.
        table: rows (DataFrame, list of dicts or records, dict of columns) as the table `file`;
            columns in `drop` (paths, say) stay out.
        checks: a table too, and a metric `check/<name>` per row with a finite `value`;
            where rows have a `verdict`, also `check_passed/<name>`: 1, 0 or -1 (`check_metrics`).
        metrics: a (nested) dict of numbers, under `prefix`.
        tags: a dict of texts, such as `{verdict: pass}`; set once all else is logged, so that a run
            that was killed bears none.
        description: a text, Markdown, that the run's page shows; set with the tags.
        arms: a store or dict of key -> `{params, history, metrics, input_shape, arm}`, all of them
            optional: one nested run each, named `arm` or else the key; `net` names a function
            from such an item to the module to log, once the node that made the arms has ended.
        arm_metrics: a dict of arm -> (nested) dict of numbers, for the same nested runs.
    announce
        Names the file in the last lines of a run that ends with it, e.g. "report".
    """

    kind: Literal[
        "artifact", "table", "checks", "metrics", "tags", "description", "arms", "arm_metrics"
    ]
    file: str | None = None
    folder: str | None = None
    prefix: str = ""
    drop: tuple[str, ...] = ()
    net: str | None = None
    announce: str | None = None


class Recorder:
    """Logs declared datasets into one parent run, each once, arms as they come."""

    def __init__(self, client: MlflowClient, run_id: str, catalog: DataCatalog) -> None:
        self._client = client
        self._run_id = run_id
        self._catalog = catalog
        self._declared: dict[str, Declaration | None] = {}
        self._done: set[str] = set()
        self._arms: set[str] = set()
        self._nets_wanted: set[str] = set()
        #: Tags that were declared, set when the run is complete.
        self.tags: dict[str, str] = {}

    def declare(self, names: Iterable[str]) -> None:
        """Read all declarations. Raises ParameterError for one that is not valid."""
        for name in sorted(names):
            self._declaration(name)

    def saved(self, name: str, data: Any) -> None:
        """Log a dataset that has just been saved; of a store, the items saved."""
        declaration = self._declaration(name)
        if declaration is None:
            return
        if declaration.kind != "arms":
            self._log(name, declaration, data)
            self._done.add(name)
            return
        # A store is saved item by item: what an earlier run left there comes at the end. Nets wait:
        # an export switches settings of the whole process that change the kernels, and with them
        # the rounding, of whatever else is still being trained (decision 0021).
        self._log(name, declaration.model_copy(update={"net": None}), data)
        if declaration.net:
            self._nets_wanted.add(name)

    def node_ended(self) -> None:
        """Log the nets of the arms saved by a node, now that nothing is trained any more."""
        wanted, self._nets_wanted = self._nets_wanted, set()
        for name in sorted(wanted):
            declaration = self._declaration(name)
            assert declaration is not None
            self._log(name, declaration, self._catalog.load(name))

    def complete(self, names: Iterable[str]) -> None:
        """Log what exists and has not been saved by this run: a resumed run tracks it all.

        Then set the tags: nothing that may still fail or be killed comes after them.
        """
        for name in sorted(set(names) - self._done):
            declaration = self._declaration(name)
            if declaration is not None and self._catalog.exists(name):
                data = None if declaration.kind == "artifact" else self._catalog.load(name)
                self._log(name, declaration, data)
                self._done.add(name)
        for key, value in self.tags.items():
            self._client.set_tag(self._run_id, key, value)

    def announcements(self, ends: Iterable[str]) -> dict[str, Path]:
        """What the last lines of the run name: title -> path, of those that exist.

        Only of `ends`, the entries that no step of the run takes any further.
        """
        found = ((d.announce, name) for name, d in self._declared.items() if d and d.announce)
        done = self._done.intersection(ends)
        return {str(title): self._path(name) for title, name in found if name in done}

    def _declaration(self, name: str) -> Declaration | None:
        if name not in self._declared:
            metadata = getattr(self._catalog.get(name), "metadata", None) or {}
            raw = metadata.get("mlflow")
            try:
                self._declared[name] = None if raw is None else Declaration.model_validate(raw)
            except ValidationError as error:
                line = describe_validation(error, Declaration)
                raise ParameterError(f"catalog entry '{name}', metadata.mlflow: {line}") from error
        return self._declared[name]

    def _log(self, name: str, declaration: Declaration, data: Any) -> None:
        log = getattr(self, f"_log_{declaration.kind}")
        try:
            log(name, declaration, data)
        except OSError as error:  # MLflow's own does not always say what it could not write
            what = f"{declaration.file or self._path(name).name} among the artifacts of MLflow"
            raise OSError(error.errno, error.strerror, what) from error

    def _log_artifact(self, name: str, declaration: Declaration, _: Any) -> None:
        path = self._path(name)
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), declaration.folder or path.name)
        else:
            self._client.log_artifact(self._run_id, str(path), declaration.folder)

    def _log_table(self, name: str, declaration: Declaration, data: Any) -> pd.DataFrame:
        table = as_table(data)
        public = table.drop(columns=list(declaration.drop), errors="ignore")
        file = declaration.file or f"{name}.json"
        self._client.log_table(self._run_id, public, file)
        return table

    def _log_checks(self, name: str, declaration: Declaration, data: Any) -> None:
        table = self._log_table(name, declaration, data)
        log_metrics(self._client, self._run_id, check_metrics(table))

    def _log_metrics(self, _: str, declaration: Declaration, data: Any) -> None:
        nested = {declaration.prefix: data} if declaration.prefix else data
        log_metrics(self._client, self._run_id, nested)

    def _log_tags(self, _: str, __: Declaration, data: Mapping[str, Any]) -> None:
        self.tags |= {key: str(value) for key, value in data.items()}

    def _log_description(self, _: str, __: Declaration, data: str) -> None:
        self.tags[MLFLOW_RUN_NOTE] = data

    def _log_arms(self, name: str, declaration: Declaration, data: Mapping[str, Any]) -> None:
        build = load_obj(declaration.net) if declaration.net else None
        for key in sorted(set(data) - self._arms):
            item = data[key]
            if item is None:
                continue
            known = {k: item[k] for k in ("params", "history", "metrics") if k in item}
            if "input_shape" in item:
                known["input_shape"] = tuple(item["input_shape"])
            net = build(item) if build else None
            log_arm(self._client, self._run_id, Arm(item.get("arm", key), net=net, **known))
            if build or not self._has_nets(name):
                self._arms.add(key)

    def _has_nets(self, name: str) -> bool:
        declaration = self._declaration(name)
        return declaration is not None and declaration.net is not None

    def _log_arm_metrics(self, _: str, __: Declaration, data: Mapping[str, Any]) -> None:
        for name, metrics in data.items():
            log_arm(self._client, self._run_id, Arm(name, metrics=metrics))

    def _path(self, name: str) -> Path:
        dataset = self._catalog.get(name)
        return Path(getattr(dataset, "path", None) or dataset._filepath)


def as_table(data: Any) -> pd.DataFrame:
    """Rows of any handy form as a table."""
    if isinstance(data, list | tuple):
        data = [_row(item) for item in data]
    return pd.DataFrame(data)


def _row(item: Any) -> Any:
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return dataclasses.asdict(item)
    return item
