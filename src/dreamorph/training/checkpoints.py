"""Checkpoints that are whole or absent."""

import io
import logging
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

logger = logging.getLogger(__name__)

_SUFFIX = ".ckpt"
#: The newest may turn out unreadable after a power cut; the one before it is kept for that.
KEPT = 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, to the disk, and renames."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """See the base class; a reader never meets half a file."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".part")
        contents = io.BytesIO()  # torch hides a full disk behind an error of its own
        torch.save(checkpoint, contents)
        try:
            with temporary.open("wb") as stream:
                stream.write(contents.getbuffer())
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from error
        finally:  # of a full disk, say, nothing stays
            temporary.unlink(missing_ok=True)


class StepCheckpoints(pl.Callback):
    """Saves every so many steps and keeps the newest.

    Lightning's own callback is not used because it keeps absolute paths in its state, and warns
    when a run continues from another folder.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when due, and at the end: a finished network may wait before it is stored."""
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            trainer.save_checkpoint(self.folder / f"{step:09d}{_SUFFIX}")
            for old in _newest_first(self.folder)[KEPT:]:
                old.unlink()


def newest_intact(folder: Path) -> Path | None:
    """The newest checkpoint in a folder that can be read; others are named in the log."""
    for path in _newest_first(folder):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            logger.warning("checkpoint %s cannot be read (%s); using an older one", path, error)
        else:
            return path
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"), reverse=True) if folder.is_dir() else []
