"""What happens around the nodes: parameters are checked, progress is told, results are tracked."""

import importlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock, Timeout
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from pydantic import BaseModel

from dreamorph.errors import DreamorphError, ParameterError
from dreamorph.pipelines.common import Items
from dreamorph.pipelines.ingest.nodes import check_origin, of_simulated
from dreamorph.tracking.anonymous import anonymise
from dreamorph.tracking.declared import Recorder
from dreamorph.tracking.failures import check_parameters, one_line, scrub
from dreamorph.tracking.metrics import log_params
from dreamorph.tracking.parameters import columns
from dreamorph.tracking.places import follow
from dreamorph.tracking.processes import git_commit, process_tags, reap
from dreamorph.tracking.server import asking
from dreamorph.volumes.config import CohortConfig

# The plugin's classes are of an older style; MLflow complains about one of them past every filter.
with warnings.catch_warnings(record=True):
    warnings.simplefilter("ignore")
    from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

logger = logging.getLogger(__name__)
# kedro-mlflow sets a level of its own when imported, whatever conf/logging.yml says.
logging.getLogger("kedro_mlflow").setLevel(logging.ERROR)

SQLITE = "sqlite:///"
VERDICT, UNDECIDED = "verdict", "not_assessable"
#: A tag, and the catalog entry that the report reads.
COMMIT = "git_commit"
#: Another tag and entry: groups of parameters whose steps were left to earlier runs.
EARLIER = "earlier_parameters"
_PARAMS = "params:"
_OBJECT = re.compile(r"<(?:[\w.]+\.)?(\w+) object at .*>")


class ParameterHook:
    """Checks how a run is asked for before any work is done."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check all parameters against `<package>.parameters.Parameters`.

        Raises ParameterError, one line, for an unknown or invalid parameter.
        """
        model = parameters_model(context._package_name)
        if model is None:
            return
        raw = dict(context.config_loader["parameters"])
        if "study" not in model.model_fields:
            raw.pop("study", None)  # where results go, which is no node's business
        check_parameters(raw, model)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Raises ParameterError for a runner of several steps at once.

        Between processes volumes would have to be sent; in threads, steps would take each other's
        cores, and networks be exported while others are trained.
        """
        asked = str(run_params.get("runner") or "")
        for name in ("ParallelRunner", "ThreadRunner"):
            if name in asked:
                raise ParameterError(
                    f"{name}: steps run one after the other, and each uses all cores, or the GPU,"
                    " by itself: leave --runner out"
                )


class LockHook:
    """Lets one run of a study at a time write its results: two would mix them."""

    _file: Path | None = None
    _lock: FileLock | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Take the study's name."""
        study = getattr(context.config_loader, "study", str)()
        folder = Path(context.project_path) / "data"
        self._file = folder / f".{study}.lock" if study and folder.is_dir() else None

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self) -> None:
        """Raises DreamorphError where another process holds the study."""
        self._release()
        if self._file is None:
            return
        lock = FileLock(self._file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise DreamorphError(
                "another run of this study is under way: wait for its end, or give study=NAME to"
                " keep both apart"
            ) from None
        except (OSError, NotImplementedError) as error:  # a disk that knows no locks, or is full
            logger.warning("the study is not locked against other runs: %s", one_line(error))
            return
        self._lock = lock

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Let go of the study."""
        self._release()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Let go of the study."""
        self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


class ProgressHook:
    """One quiet line per step."""

    def __init__(self) -> None:
        self._total = 0
        self._started = 0

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Count the steps."""
        self._total, self._started = len(pipeline.nodes), 0

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Tell which step begins."""
        self._started += 1
        logger.info("step %d of %d: %s", self._started, self._total, node.name.replace("_", " "))


class TrackingHook(MlflowHook):
    """kedro-mlflow's hook with readable parameters, declared results and no run left running.

    One parent run per `kedro run`. Catalog entries say by their metadata what is tracked, see
    `dreamorph.tracking.declared.Declaration`.
    """

    run_id: str | None
    recorder: Recorder | None = None
    study = ""
    commit = ""
    _project = Path()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Set MLflow up, its database in the project whatever the working directory."""
        config = context.config_loader["mlflow"]
        server = config.setdefault("server", {})
        server["mlflow_tracking_uri"] = in_project(
            server.get("mlflow_tracking_uri"), context.project_path
        )
        context.config_loader["mlflow"] = config
        self.run_id = None  # of an earlier session in this process
        self.study = getattr(context.config_loader, "study", str)()
        self._project = Path(context.project_path)
        anonymise()
        # with the credentials that the configuration names
        with asking(str(server["mlflow_tracking_uri"])):
            super().after_context_created(context)
        database = Path(str(server["mlflow_tracking_uri"]).removeprefix(SQLITE))
        if self._project in database.parents:
            experiment = self.mlflow_config.tracking.experiment
            wanted = experiment.create_experiment_kwargs.artifact_location
            found = experiment._experiment.artifact_location
            if wanted is not None and follow(database, found, wanted):
                logger.info("the project was moved: MLflow finds its artifacts in %s", wanted)

    @hook_impl
    def after_catalog_created(
        self,
        catalog: DataCatalog,
        conf_catalog: dict[str, Any],
        conf_creds: dict[str, Any],
        parameters: dict[str, Any],
        save_version: str,
        load_versions: dict[str, str],
    ) -> None:
        """Take the commit, once: a run's tag and its report must name the same one."""
        self.commit = git_commit(self._project)
        catalog[COMMIT] = self.commit
        super().after_catalog_created(
            catalog, conf_catalog, conf_creds, parameters, save_version, load_versions
        )

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Close runs of dead processes, open this one, log parameters and tags.

        Parameters that no step of this run takes are not logged: they shaped nothing of it.
        """
        pipelines.set_requested(None)
        earlier = of_others(pipeline, pipelines.get("__default__", pipeline))
        catalog[EARLIER] = earlier
        client = self.mlflow_config.server._mlflow_client
        name = self.mlflow_config.tracking.experiment.name
        experiment = client.get_experiment_by_name(name).experiment_id
        for run_id in reap(client, experiment):
            logger.info("MLflow run %s was left by a killed process: marked KILLED", run_id)
        # kedro-mlflow makes tags of these, and paths may name patients.
        hidden = dict.fromkeys(("project_path", "runtime_params", "extra_params"))
        shown = {"runner": _OBJECT.sub(r"\1", str(run_params.get("runner") or ""))}
        super().before_pipeline_run(run_params | hidden | shown, pipeline, catalog)
        if not self._is_mlflow_enabled or self.run_id is None:
            return
        self.recorder = Recorder(client, self.run_id, catalog)
        with self._failing_run():
            self.recorder.declare(pipeline.datasets())
            asked = run_params.get("runtime_params") or {}
            patients = self._patients(pipeline, catalog, asked.get("cohort") or {})
        known = client.get_run(self.run_id).data.tags
        mlflow.set_tags(
            {
                MLFLOW_RUN_NAME: run_name(self.study, str(known.get(MLFLOW_RUN_NAME, ""))),
                VERDICT: known.get(VERDICT, UNDECIDED),
                COMMIT: self.commit,
                "study": self.study,
                "patients": patients,
                **({EARLIER: ", ".join(earlier)} if earlier else {}),
                **process_tags(),
            }
        )
        if "parameters" in catalog:
            unused = set(earlier) - set(groups(pipeline.nodes))
            used = {k: v for k, v in catalog.load("parameters").items() if k not in unused}
            log_params(client, self.run_id, columns(used))

    @hook_impl
    def before_node_run(
        self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Make the run active in this thread; its parameters are logged already.

        Not by the plugin's method, which opens the run once more for every node.
        """
        if self.run_id is not None and mlflow.active_run() is None:
            mlflow.start_run(run_id=self.run_id)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the catalog declares, as soon as it is there."""
        if self.recorder is not None:
            self.recorder.saved(dataset_name, data)

    @hook_impl
    def after_node_run(self) -> None:
        """Log what has to wait until the node's work is done."""
        if self.recorder is not None:
            self.recorder.node_ended()

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Log what earlier runs left for this one to build on, close the run, say where to look."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            with self._failing_run():
                recorder.complete(pipeline.datasets())
                self._announce(recorder, pipeline.outputs())
        super().after_pipeline_run(run_params, pipeline, catalog)
        self.run_id = None

    @hook_impl
    def on_pipeline_error(
        self,
        error: Exception,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: DataCatalog,
    ) -> None:
        """Close the run as FAILED with the one line that says why."""
        self.close("FAILED", one_line(error))

    def close(self, status: str, reason: str) -> None:
        """Close this process's run, if one is open, with a status and a reason without paths.

        The verdict fails closed: that of a run that failed is no other, whatever it had found.
        """
        run_id, self.run_id, self.recorder = self.run_id, None, None
        if run_id is None:
            return
        try:
            client: MlflowClient = self.mlflow_config.server._mlflow_client
            client.set_tag(run_id, "error", scrub(reason))
            if status == "FAILED":
                client.set_tag(run_id, VERDICT, "fail")
            if not self._already_active_mlflow:  # else it belongs to whoever opened it
                while mlflow.active_run():
                    mlflow.end_run(status)
                client.set_terminated(run_id, status)
        except Exception as error:
            # Must not hide why the run is closed. The next run marks this one as KILLED.
            logger.warning("MLflow run %s could not be closed: %s", run_id, one_line(error))

    @contextmanager
    def _failing_run(self) -> Iterator[None]:
        """Kedro calls no error hook for what fails before the first or after the last node."""
        try:
            yield
        except Exception as error:
            self.close("FAILED", one_line(error))
            raise

    @staticmethod
    def _patients(pipeline: Pipeline, catalog: DataCatalog, asked: dict[str, Any]) -> str:
        """Whether the volumes are of real or of simulated patients.

        Raises CohortError where a run of later steps alone was asked for another cohort than the
        one that the study's results are of. A preset's own path asks for nothing.
        """
        cohort = catalog.load("parameters").get("cohort") if "parameters" in catalog else None
        known = CohortConfig.model_validate(
            cohort.model_dump() if isinstance(cohort, BaseModel) else cohort or {}
        )
        origin: Items = {}
        if catalog.exists("origin_before") and "origin" not in pipeline.all_outputs():
            origin = catalog.load("origin_before")
        if asked.get("path") or asked.get("manifest"):
            check_origin(known, origin)
        return "simulated" if of_simulated(known, origin) else "real"

    @staticmethod
    def _announce(recorder: Recorder, ends: Iterable[str]) -> None:
        """The verdict, where one is given, and the files that the run ends with."""
        if VERDICT in recorder.tags:
            logger.info("verdict: %s", recorder.tags[VERDICT].replace("_", " "))
        for title, path in recorder.announcements(ends).items():
            logger.info("%s: %s", title, path)


def run_name(study: str, pipelines: str) -> str:
    """What a run is called: its study, and the pipelines where it is not all of them."""
    return study if pipelines in ("", "__default__") else f"{study}: {pipelines}"


def groups(nodes: Iterable[Node]) -> list[str]:
    """Groups of parameters that some nodes take, sorted.

    A single value of a group, where to compute, say, does not make it one of theirs.
    """
    taken = {name for node in nodes for name in node.inputs if name.startswith(_PARAMS)}
    return sorted({name.removeprefix(_PARAMS) for name in taken if "." not in name})


def of_others(pipeline: Pipeline, whole: Pipeline) -> list[str]:
    """Groups of parameters of the steps of the whole that a pipeline leaves out, sorted.

    What it builds on was made by an earlier run, perhaps with other values of them.
    """
    own = {node.name for node in pipeline.nodes}
    return groups(node for node in whole.nodes if node.name not in own)


def parameters_model(package: str) -> type[BaseModel] | None:
    """The root model of all parameters, `<package>.parameters.Parameters`, where there is one."""
    name = f"{package}.parameters"
    try:
        return importlib.import_module(name).Parameters
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def in_project(uri: str | None, project: Path) -> str | None:
    """A relative SQLite address made absolute, its folder made; other addresses as they are."""
    if not uri or not uri.startswith(SQLITE) or uri.startswith(f"{SQLITE}/"):
        return uri
    file = project / uri.removeprefix(SQLITE)
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"{SQLITE}{file}"
