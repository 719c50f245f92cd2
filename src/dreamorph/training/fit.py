"""Train one arm of the comparison."""

import logging
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd
import torch

from dreamorph.dreaming.samplers import WarpSampler
from dreamorph.fingerprint import fingerprint
from dreamorph.parallel import side_by_side
from dreamorph.training.augment import Augmenter
from dreamorph.training.config import LogSink, TrainingConfig
from dreamorph.training.data import TrainingData
from dreamorph.training.device import device_named
from dreamorph.training.networks import NetworkSpec, PaddedNetwork, build_network, network_spec
from dreamorph.training.seeding import seed_for, seeded

logger = logging.getLogger(__name__)

#: Counts up whenever the same arguments would give other weights.
VERSION = 9

#: MLflow imports Lightning under its old names too, and whoever comes last does the talking.
_TALKERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
#: Openings of Lightning's remarks that do not apply: nothing is loaded, so workers have no work and
#: the loader no state; a GPU may be left alone on purpose; the last is about Lightning's own code.
_REMARKS = (
    "You're resuming from a checkpoint that ended before the epoch ended",
    "The 'train_dataloader' does not have many workers",
    "GPU available but not used",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


@dataclass(frozen=True)
class Arm:
    """One way of making training samples.

    Attributes:
        name: such as `dream`.
        sampler: draws sources and warps.
        intensity: whether brightness changes too, as `TrainingConfig.intensity` says.
        fingerprint: of all that shapes the sampler, so that an interrupted training never
            continues with other warps.
    """

    name: str
    sampler: WarpSampler
    intensity: bool = True
    fingerprint: str = ""


@dataclass(frozen=True)
class TrainedArm:
    """A trained network and how it got there.

    Attributes:
        arm, seed: which training this was.
        network: how to build it again.
        state: its weights on the CPU.
        history: columns step, metric, value; steps count from 1.
    """

    arm: str
    seed: int
    network: NetworkSpec
    state: dict[str, torch.Tensor]
    history: pd.DataFrame

    def build(self) -> PaddedNetwork:
        """The network with its weights, ready for inference on the CPU."""
        with seeded(0):
            network = build_network(self.network)
        network.load_state_dict(self.state)
        return network.eval()


def train_arms(
    jobs: Sequence[tuple[Arm, int]],
    data: TrainingData,
    config: TrainingConfig,
    checkpoint_dir: Path | None = None,
) -> Iterator[TrainedArm]:
    """Train the networks of several arms and seeds side by side, and give them in order.

    See `train_arm`. A network's checkpoints go when the next one is asked for, so whoever keeps
    each before asking on loses none to a kill. On a CPU each network has one core to itself: grids
    this small leave a second thread little to do.
    """
    yield from train_each(((arm, seed, data) for arm, seed in jobs), config, checkpoint_dir)


def train_each(
    jobs: Iterable[tuple[Arm, int, TrainingData]],
    config: TrainingConfig,
    checkpoint_dir: Path | None = None,
) -> Iterator[TrainedArm]:
    """As `train_arms`, each on volumes of its own; jobs are asked for as cores fall free."""

    def work(job: tuple[Arm, int, TrainingData]) -> tuple[TrainedArm, Path | None]:
        arm, seed, data = job
        folder = _folder(checkpoint_dir, arm, data, config, seed)
        return _train(arm, data, config, seed, folder, None), folder

    todo = iter(jobs)
    first = next(todo, None)
    if first is None:
        return
    with _settled():
        for trained, folder in side_by_side(work, chain([first], todo)):
            yield trained
            _remove(folder)


def train_arm(
    arm: Arm,
    data: TrainingData,
    config: TrainingConfig,
    seed: int,
    checkpoint_dir: Path | None = None,
    on_log: LogSink | None = None,
) -> TrainedArm:
    """Train one network; the same arguments give the same weights on the same machine.

    The initial weights, the order of the volumes and the schedule depend on the seed only, so arms
    differ in their samples alone. A training that was interrupted continues from the newest intact
    checkpoint below `checkpoint_dir` and ends with the weights it would have had.

    Args:
        arm: how samples are made.
        data: the training volumes.
        config: shared by all arms.
        seed: of this training.
        checkpoint_dir: where checkpoints live while training; removed when done. None for none.
        on_log: told `(step, metrics)`, for all steps of an epoch once it is over.

    Raises:
        TrainingError: the loss is no longer finite, or the wanted device or network is not there.
    """
    folder = _folder(checkpoint_dir, arm, data, config, seed)
    with _settled():
        trained = _train(arm, data, config, seed, folder, on_log)
    _remove(folder)
    return trained


def _train(
    arm: Arm,
    data: TrainingData,
    config: TrainingConfig,
    seed: int,
    folder: Path | None,
    on_log: LogSink | None,
) -> TrainedArm:
    device = device_named(config.device)
    spec = network_spec(config, data.images.shape[1], data.n_outputs, data.task, data.ndim)
    with seeded(seed_for(seed, "weights")):
        network = build_network(spec)
    intensity = config.intensity if arm.intensity else None
    augmenter = Augmenter(_placed(data, device), arm.sampler, intensity, device)
    from dreamorph.training import trainer

    learner = trainer.LEARNERS[data.task](network, augmenter, config, seed, on_log)
    trainer.fit(learner, f"{arm.name} (seed {seed})", device, folder)
    history = pd.DataFrame(learner.history, columns=["step", "metric", "value"])
    state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
    return TrainedArm(arm.name, seed, spec, state, history)


def _folder(
    checkpoint_dir: Path | None, arm: Arm, data: TrainingData, config: TrainingConfig, seed: int
) -> Path | None:
    return None if checkpoint_dir is None else checkpoint_dir / _key(arm, data, config, seed)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _settled() -> Iterator[None]:
    """Repeatable convolutions, and none of Lightning's remarks about hardware and workers.

    Both are settings of the whole process: one at a time.
    """
    # Lightning takes seconds to load, and makes itself heard once more when it is: before all else.
    from dreamorph.training import trainer  # noqa: F401

    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with (
            warnings.catch_warnings(),
            torch.backends.cudnn.flags(deterministic=True, benchmark=False),
        ):
            for remark in _REMARKS:
                warnings.filterwarnings("ignore", message=remark)
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _key(arm: Arm, data: TrainingData, config: TrainingConfig, seed: int) -> str:
    """Name of the checkpoints' folder: whatever shapes the result is part of it."""
    shared = config.model_dump(mode="json", exclude={"arms", "seeds", "progress"})
    contents = [data.images, data.labels, data.masks, data.classes, data.n_outputs]
    mark = fingerprint(VERSION, arm.fingerprint, arm.intensity, shared, contents)
    return f"{arm.name}-{seed}-{mark}"


def _placed(data: TrainingData, device: torch.device) -> TrainingData:
    """The volumes on the GPU where a quarter of its free memory holds them."""
    if device.type != "cuda":
        return data
    volumes = (data.images, data.labels, data.masks)
    needed = sum(v.numel() * v.element_size() for v in volumes)
    if needed > torch.cuda.mem_get_info(device)[0] // 4:
        return data
    images, labels, masks = (v.to(device) for v in volumes)
    return TrainingData(images, labels, masks, data.classes, data.n_outputs)
