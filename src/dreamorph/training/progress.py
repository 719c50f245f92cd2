"""A progress bar over all steps of a training."""

import sys
from typing import Any

import lightning.pytorch as pl
from tqdm.auto import tqdm

#: Seconds between two refreshes on a terminal, and in a log file.
ON_TERMINAL, IN_LOG = 0.5, 20.0


class StepBar(pl.Callback):
    """One bar for the whole training, also where it continues; Lightning shows one per epoch."""

    def __init__(self, title: str, steps: int, loss_every: int) -> None:
        self.title, self.steps, self.loss_every = title, steps, loss_every
        self._bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the step where this training stands."""
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=self.steps,
            initial=trainer.global_step,
            desc=self.title,
            unit="step",
            mininterval=ON_TERMINAL if terminal else IN_LOG,
            # Bars of arms trained side by side stand below each other; a log has no lines to go up.
            position=None if terminal else 0,
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """One step further; reading the loss only now and then does not hold up a GPU."""
        self._bar.update()
        if trainer.global_step % self.loss_every == 0:
            self._bar.set_postfix(loss=f"{float(outputs['loss']):.3f}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that a message does not end up in its line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
