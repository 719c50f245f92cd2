"""Arms of an experiment as nested runs, and their nets as MLflow models."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.entities import LoggedModelOutput, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from dreamorph.fingerprint import fingerprint
from dreamorph.tracking.anonymous import NOBODY
from dreamorph.tracking.failures import one_line, scrub
from dreamorph.tracking.metrics import log_history, log_metrics, log_params
from dreamorph.tracking.parameters import columns
from dreamorph.tracking.processes import process_tags

logger = logging.getLogger(__name__)

_ARM = "arm"
_PART = "logged."
_NETWORK = "network"
#: Counts up whenever a network would be exported otherwise.
EXPORT = 2
_INPUT_SHAPE = (1, 32, 32, 32)


@dataclass(frozen=True)
class Arm:
    """What is known of one arm; parts that are not known yet stay empty.

    params: nested parameters; history: curves as `log_history` takes them; metrics: final values;
    net: a module from (B, C, D, H, W) float32 to one tensor; input_shape: the (C, D, H, W) it was
    trained on.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    history: Any = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    net: torch.nn.Module | None = None
    input_shape: tuple[int, ...] = _INPUT_SHAPE


def log_arm(client: MlflowClient, parent: str, arm: Arm) -> str:
    """Log an arm as a run nested in `parent`; return the nested run's id.

    Safe to repeat and to complete later: an arm has one run per parent, and each part of it is
    logged once.
    """
    run = _find(client, parent, arm.name) or _create(client, parent, arm.name)
    run_id = run.info.run_id
    done = set(run.data.tags)
    parts = {
        "params": bool(arm.params),
        "history": arm.history is not None,
        "metrics": bool(arm.metrics),
        "model": arm.net is not None,
    }
    for part, known in parts.items():
        if known and _PART + part not in done:
            _log_part(client, run_id, arm, part)
            client.set_tag(run_id, _PART + part, "true")
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))
    return run_id


def log_model(run_id: str, net: torch.nn.Module, input_shape: tuple[int, ...]) -> str:
    """Log a net in PyTorch's export format, free in batch and spatial size; return its URI.

    A spatial size must suit the net's strides. Nets that pool down to one voxel should be given
    the size they were trained on as `input_shape`, which the export takes as the smallest.
    """
    spatial = len(input_shape) - 1
    channels = input_shape[0]
    single = np.dtype("float32")
    inputs = TensorSpec(single, (-1, channels, *[-1] * spatial))
    example = torch.zeros(2, *input_shape)
    net = net.cpu().eval()
    with torch.no_grad():
        rank = net(example).ndim
    outputs = TensorSpec(single, (-1,) * rank)
    with mlflow.start_run(run_id=run_id, nested=True):
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=_Flavor,
            pytorch_model=net,
            signature=ModelSignature(Schema([inputs]), Schema([outputs])),
            input_example=example,
            serialization_format="pt2",
            # Named, so that MLflow does not start a process to find them out.
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        )
    return str(info.model_uri)


class _Flavor:
    """MLflow's own for PyTorch, and what serves it, without an example kept beside the net.

    Of an example that is a tensor MLflow makes no `python_function`; an array it would write out as
    text, megabytes for a volume, and load the net back to try it on that.
    """

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **given: Any) -> None:
        mlflow.pytorch.save_model(path=path, mlflow_model=mlflow_model, **given)
        mlflow.pyfunc.add_to_model(
            mlflow_model,
            loader_module="mlflow.pytorch",
            data="data",
            pickle_module_name="mlflow.pytorch.pickle_module",
            conda_env="conda.yaml",
            python_env="python_env.yaml",
            model_config={"device": None},
        )
        mlflow_model.save(str(Path(path) / "MLmodel"))


def _log_part(client: MlflowClient, run_id: str, arm: Arm, part: str) -> None:
    if part == "params":
        log_params(client, run_id, columns(arm.params))
    elif part == "history":
        log_history(client, run_id, arm.history)
    elif part == "metrics":
        log_metrics(client, run_id, arm.metrics)
    else:
        _try_model(client, run_id, arm)


def _try_model(client: MlflowClient, run_id: str, arm: Arm) -> None:
    """A net that cannot be exported must not cost the run its other results.

    One that an earlier run has logged, weight by weight the same, is not exported again, which
    takes seconds and as much room: this run points to that model.
    """
    assert arm.net is not None
    try:
        made_by = EXPORT, mlflow.__version__, torch.__version__
        state = arm.net.cpu().state_dict()
        mark = fingerprint(*made_by, str(arm.net), arm.input_shape, state)
        uri = _logged_before(client, run_id, mark) or log_model(run_id, arm.net, arm.input_shape)
        client.set_tag(run_id, "model_uri", uri)
        client.set_tag(run_id, _NETWORK, mark)
    except Exception as error:
        line = scrub(one_line(error))
        logger.warning("the net of arm %s is not in MLflow: %s", arm.name, line)
        client.set_tag(run_id, "model_error", line)


def _logged_before(client: MlflowClient, run_id: str, mark: str) -> str | None:
    """The model of a run that is not deleted, of the same network, if it is still there."""
    experiment = client.get_run(run_id).info.experiment_id
    for run in client.search_runs([experiment], f"tags.{_NETWORK} = '{mark}'", max_results=10):
        uri = run.data.tags.get("model_uri", "")
        model_id = uri.rpartition("/")[2]
        try:
            there = bool(mlflow.artifacts.list_artifacts(artifact_uri=uri))
            if there:
                client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
                return uri
        except (MlflowException, OSError) as error:
            logger.debug("the model of an earlier run cannot be used: %s", one_line(error))
    return None


def _find(client: MlflowClient, parent: str, name: str) -> Run | None:
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' and tags.`{_ARM}` = '{name}'"
    experiment = client.get_run(parent).info.experiment_id
    found = client.search_runs([experiment], filter_string=query, max_results=1)
    return found[0] if found else None


def _create(client: MlflowClient, parent: str, name: str) -> Run:
    experiment = client.get_run(parent).info.experiment_id
    tags = {MLFLOW_PARENT_RUN_ID: parent, _ARM: name, **NOBODY, **process_tags()}
    return client.create_run(experiment, run_name=name, tags=tags)
