"""An arm has one nested run per parent, whatever is logged how often."""

import mlflow
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from monai.networks.nets import UNet

from dreamorph.tracking import arms
from dreamorph.tracking.arms import Arm, log_arm

HISTORY = {"step": [0, 1], "loss": [1.0, 0.5]}


def test_an_arm_is_logged_once_and_completed_later(
    client: MlflowClient, parent: str, experiment: str
) -> None:
    arm = Arm("dream", params={"lr": 0.1}, history=HISTORY)
    run_id = log_arm(client, parent, arm)
    assert log_arm(client, parent, arm) == run_id
    assert log_arm(client, parent, Arm("dream", metrics={"test": {"dice_mean": 0.8}})) == run_id
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "dream"
    assert run.data.params == {"lr": "0.1"}
    assert run.data.metrics == {"loss": 0.5, "test/dice_mean": 0.8}
    assert len(client.get_metric_history(run_id, "loss")) == 2
    assert len(client.search_runs([experiment])) == 2


def test_arms_of_other_parents_are_other_runs(
    client: MlflowClient, parent: str, experiment: str
) -> None:
    other = client.create_run(experiment).info.run_id
    arm = Arm("none", params={"lr": 1})
    assert log_arm(client, parent, arm) != log_arm(client, other, arm)
    assert log_arm(client, parent, arm) != log_arm(client, parent, Arm("dream"))


@pytest.mark.slow
def test_a_unet_loads_back_at_other_sizes(client: MlflowClient, parent: str) -> None:
    net = UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=1)
    run_id = log_arm(client, parent, Arm("dream", net=net, input_shape=(1, 16, 16, 16)))
    loaded = mlflow.pytorch.load_model(client.get_run(run_id).data.tags["model_uri"])
    net = net.eval()
    for shape in ((2, 1, 16, 16, 16), (1, 1, 24, 32, 16), (3, 1, 8, 8, 12)):
        volume = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(loaded(volume), net(volume))


@pytest.mark.slow
def test_the_same_network_is_kept_once(
    client: MlflowClient, parent: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = []
    export = arms.log_model
    monkeypatch.setattr(arms, "log_model", lambda *given: exports.append(1) or export(*given))
    net = torch.nn.Conv3d(1, 2, 3, padding=1)

    def logged() -> str:
        again = client.create_run(experiment).info.run_id
        run = client.get_run(
            log_arm(client, again, Arm("dream", net=net, input_shape=(1, 8, 8, 8)))
        )
        assert "model_error" not in run.data.tags
        assert [m.model_id for m in run.outputs.model_outputs] == [uri(run).rpartition("/")[2]]
        return run.info.run_id

    def uri(run: Run) -> str:
        return run.data.tags["model_uri"]

    first, second = logged(), logged()
    assert uri(client.get_run(first)) == uri(client.get_run(second))
    assert len(exports) == 1
    loaded = mlflow.pytorch.load_model(uri(client.get_run(second)))
    volume = torch.rand(2, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(volume), net(volume))
        net.weight += 1.0
    assert uri(client.get_run(logged())) != uri(client.get_run(first))
    assert len(exports) == 2
    client.delete_run(logged())  # points to the third, which stays
    client.delete_logged_model(uri(client.get_run(logged())).rpartition("/")[2])
    logged()
    assert len(exports) == 3


class Unexportable(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x


def test_a_net_that_cannot_be_exported_is_told_and_costs_nothing(
    client: MlflowClient, parent: str, caplog: pytest.LogCaptureFixture
) -> None:
    arm = Arm("dream", metrics={"a": 1}, net=Unexportable(), input_shape=(1, 4, 4, 4))
    run = client.get_run(log_arm(client, parent, arm))
    assert run.data.metrics == {"a": 1.0}
    assert "model_error" in run.data.tags
    assert "the net of arm dream is not in MLflow" in caplog.text
    assert mlflow.active_run() is None
