"""Lightning's trainer around a learner.

Apart from `fit`, which loads this only when a network is to be trained: Lightning takes as long to
load as all the rest of the package.
"""

import logging
import signal
from contextlib import ExitStack
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from dreamorph.training.checkpoints import AtomicCheckpointIO, StepCheckpoints, newest_intact
from dreamorph.training.config import TrainingConfig
from dreamorph.training.data import step_loader
from dreamorph.training.module import LEARNERS, Learner
from dreamorph.training.progress import StepBar
from dreamorph.training.seeding import alone_with_the_generators

__all__ = ["LEARNERS", "fit"]

logger = logging.getLogger(__name__)


def fit(learner: Learner, title: str, device: torch.device, folder: Path | None) -> None:
    """Train for all steps of the learner's configuration, from where its checkpoints stand.

    Args:
        learner: network, samples and schedule.
        title: what the log and the progress bar call it.
        device: where.
        folder: of the checkpoints; None for none.
    """
    config = learner.config
    start = _StartsAlone()
    callbacks: list[pl.Callback] = [start]
    resume = None
    if folder is not None:
        epochs = -(-config.checkpoint_every // config.epoch_steps)
        callbacks.append(StepCheckpoints(folder, epochs * config.epoch_steps))
        resume = newest_intact(folder)
        if resume is not None:
            logger.info("training of %s continues from step %d", title, int(resume.stem))
    if config.progress:
        callbacks.append(StepBar(title, config.steps, config.epoch_steps))
    trainer = pl.Trainer(
        max_steps=config.steps,
        max_epochs=-1,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=_precision(config, device),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with start.ended:
        _run(trainer, learner, step_loader(config.steps), resume)


class _StartsAlone(pl.Callback):
    """Keeps other threads from torch's global generators until the first step.

    Lightning notes their state when a training starts and sets it back a moment later. A network
    that another thread builds just then would begin with other weights.
    """

    def __init__(self) -> None:
        self.ended = ExitStack()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended.enter_context(alone_with_the_generators())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ended.close()


def _run(
    trainer: pl.Trainer, learner: Learner, loader: DataLoader[int], resume: Path | None
) -> None:
    """Fit; an interruption from the keyboard stays one.

    Lightning would turn it into a SystemExit and leave the process deaf to the next one.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(learner, loader, ckpt_path=resume)
    except SystemExit as stop:
        if type(stop) is not SystemExit:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop


def _precision(config: TrainingConfig, device: torch.device) -> str:
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "16-mixed"
    return "bf16-mixed" if _multiplies_bfloat16() else "32-true"


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; without them it is slower, not faster."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
