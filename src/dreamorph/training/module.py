"""What Lightning trains: one learner per task, shared by all arms."""

import math
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional

from dreamorph.errors import TrainingError
from dreamorph.parallel import raise_if_stopped
from dreamorph.training.augment import Augmenter, Batch
from dreamorph.training.config import LogSink, TrainingConfig
from dreamorph.training.data import Task, batch_size, members_at
from dreamorph.training.losses import MaskedDiceCrossEntropy
from dreamorph.training.seeding import generator_for, seed_for, seeded


class Learner(pl.LightningModule):
    """Optimiser, schedule, order of the volumes and history; tasks add loss and score.

    All that a step does follows from the seed, the step's number and the weights before it.

    Args:
        network: maps images to logits.
        augmenter: makes the batches.
        config: optimiser, schedule and number of steps.
        seed: of the volumes' order, the warps and the brightness.
        on_log: told the metrics of each step once its epoch is over.
    """

    def __init__(
        self,
        network: nn.Module,
        augmenter: Augmenter,
        config: TrainingConfig,
        seed: int,
        on_log: LogSink | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.augmenter, self.config, self.seed, self.on_log = augmenter, config, seed, on_log
        self.history: list[tuple[int, str, float]] = []
        self._losses: list[torch.Tensor] = []
        self._scores: list[torch.Tensor] = []
        self._rates: list[float] = []

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The quantity to minimise, a scalar."""
        raise NotImplementedError

    def score(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Counts that add up over the batches of an epoch."""
        raise NotImplementedError

    def epoch_metrics(self, counts: torch.Tensor) -> dict[str, float]:
        """Metrics of an epoch from its summed counts."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """One step; which volumes it sees follows from the number of steps done."""
        raise_if_stopped()
        step = self.global_step
        data = self.augmenter.data
        size = batch_size(self.config, data.task)
        members = members_at(step, len(data), size, self.seed)
        # mixed precision is for the network; warps and brightness keep theirs
        with torch.autocast(self.device.type, enabled=False):
            made = self.augmenter(members, generator_for(self.seed, "step", step))
        with self._dropout_at(step):
            logits = self.network(made.images)
        loss = self.loss(logits, made)
        with torch.no_grad():
            self._scores.append(self.score(logits, made))
        self._losses.append(loss.detach())
        self._rates.append(self.optimizers().param_groups[0]["lr"])
        return loss

    def _dropout_at(self, step: int) -> AbstractContextManager[None]:
        """Dropout draws from the one global generator; without it no arm waits for another."""
        if not self.config.dropout:
            return nullcontext()
        return seeded(seed_for(self.seed, "dropout", step))

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up and a cosine decay to zero, changed at every step."""
        optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        warmup = round(self.config.warmup * self.config.steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, self.config.steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Close an epoch when its last step is done."""
        if self.epoch_ends():
            self.close_epoch()

    def epoch_ends(self) -> bool:
        """Whether the steps done so far fill an epoch, or all are done.

        Counted here, since Lightning's epochs shift when a training continues.
        """
        done = self.global_step
        return done % self.config.epoch_steps == 0 or done >= self.config.steps

    def close_epoch(self) -> None:
        """Move what the epoch gathered into the history, and report it; once."""
        if not self._losses:
            return
        losses = torch.stack(self._losses).tolist()
        if not all(math.isfinite(loss) for loss in losses):
            raise TrainingError(
                f"training diverged: the loss is not finite before step {self.global_step}; "
                "lower training.learning_rate"
            )
        last = self.global_step
        first = last - len(self._losses) + 1
        by_step: dict[int, dict[str, float]] = defaultdict(dict)
        for offset, (loss, rate) in enumerate(zip(losses, self._rates, strict=True)):
            by_step[first + offset] = {"train/loss": loss, "train/learning_rate": rate}
        by_step[last].update(self.epoch_metrics(torch.stack(self._scores).sum(dim=0).cpu()))
        self._losses, self._scores, self._rates = [], [], []
        for step, metrics in by_step.items():
            self.history.extend((step, name, value) for name, value in metrics.items())
        if self.on_log is not None:
            for step, metrics in by_step.items():
                self.on_log(step, metrics)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history belongs to the state; checkpoints are taken where an epoch ends."""
        self.close_epoch()
        checkpoint["history"] = list(self.history)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the history where it stopped."""
        self.history = [tuple(row) for row in checkpoint["history"]]


class SegmentationLearner(Learner):
    """Learns labels: Dice plus cross-entropy within the mask."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.criterion = MaskedDiceCrossEntropy()

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See `MaskedDiceCrossEntropy`."""
        value: torch.Tensor = self.criterion(logits, batch.labels, batch.masks)
        return value

    def score(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Voxels in both, and voxels in either, per label: `(2, L)`."""
        size = logits.shape[1]
        predicted = logits.max(dim=1, keepdim=True).indices * batch.masks
        cells = torch.bincount((predicted * size + batch.labels).flatten(), minlength=size**2)
        table = cells.reshape(size, size)
        return torch.stack([table.diagonal()[1:], (table.sum(0) + table.sum(1))[1:]])

    def epoch_metrics(self, counts: torch.Tensor) -> dict[str, float]:
        """Dice per label over the training batches of an epoch."""
        both, either = counts.double()
        dice = 2 * both / either.clamp(min=1)
        metrics = {f"train/dice_{n}": float(d) for n, d in enumerate(dice, start=1)}
        return {**metrics, "train/dice_mean": float(dice.mean())}


class ClassificationLearner(Learner):
    """Learns classes: cross-entropy, weighted where the classes are not equally frequent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.class_weights = self.augmenter.data.class_weights()

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean over the batch of the weighted cross-entropies."""
        assert batch.classes is not None
        entropy = functional.cross_entropy(logits.float(), batch.classes, reduction="none")
        if self.class_weights is None:
            return entropy.mean()
        return (entropy * self.class_weights.to(entropy.device)[batch.classes]).mean()

    def score(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Correct, and seen: `(2,)`."""
        assert batch.classes is not None
        correct = (logits.argmax(dim=1) == batch.classes).sum()
        return torch.stack([correct, torch.full_like(correct, len(logits))])

    def epoch_metrics(self, counts: torch.Tensor) -> dict[str, float]:
        """Accuracy over the training batches of an epoch."""
        return {"train/accuracy": float(counts[0]) / float(counts[1])}


#: The learner of each task.
LEARNERS: dict[Task, type[Learner]] = {
    "segmentation": SegmentationLearner,
    "classification": ClassificationLearner,
}
