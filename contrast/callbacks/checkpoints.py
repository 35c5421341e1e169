"""Checkpoints: whole or not there, carrying the configuration, and taken when a run is interrupted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from contrast.errors import InputError, RunStopped
from contrast.run_folder import RunFolder

__all__ = ["FORMAT", "AtomicCheckpoints", "Checkpoints"]

FORMAT = 1
"""Version of what a checkpoint holds under "contrast"."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoint files that appear whole: written beside, flushed to disk, then renamed over the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f"{target.name}.tmp{os.getpid()}")
        try:
            with open(staged, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, target)
        finally:
            staged.unlink(missing_ok=True)


class Checkpoints(lightning.Callback):
    """``checkpoints/last.ckpt`` every few epochs, at the end and on Ctrl-C; on request one that is kept for good.

    Ctrl-C lets the step finish, saves and stops, so that a resumed run goes on exactly where this one was. A second
    Ctrl-C stops at once.

    Args:
        folder: the run folder.
        config: the resolved configuration, kept in every checkpoint.
        every_n_epochs: between writes of last.ckpt.
        every_n_steps: between further writes within an epoch; 0 makes none.
        keep_every_n_epochs: between checkpoints under their own names; 0 keeps none.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: dict[str, Any],
        every_n_epochs: int = 1,
        every_n_steps: int = 0,
        keep_every_n_epochs: int = 0,
    ) -> None:
        if every_n_epochs < 1 or every_n_steps < 0 or keep_every_n_epochs < 0:
            raise InputError(
                f"checkpoints.every_n_epochs {every_n_epochs} must be at least 1, every_n_steps {every_n_steps} and "
                f"keep_every_n_epochs {keep_every_n_epochs} at least 0"
            )
        self.folder, self.config = folder, config
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.keep_every_n_epochs = keep_every_n_epochs
        self._interrupted = False
        self._before: Any = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["contrast"] = {"format": FORMAT, "config": self.config}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        def finish_the_step(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self._before = signal.signal(signal.SIGINT, finish_the_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._interrupted:
            _save(trainer, self.folder.last_checkpoint)
            raise RunStopped(
                f"interrupted at step {trainer.global_step}, all of it saved; go on with: "
                f"contrast pretrain --resume {self.folder.path}",
                exit_code=130,
            )
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            _save(trainer, self.folder.last_checkpoint)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done % self.every_n_epochs == 0:
            _save(trainer, self.folder.last_checkpoint)
        if self.keep_every_n_epochs and done % self.keep_every_n_epochs == 0:
            _save(trainer, self.folder.checkpoints / f"epoch-{done:04d}.ckpt")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        _save(trainer, self.folder.last_checkpoint)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


def _save(trainer: lightning.Trainer, path: Path) -> None:
    # Lightning's `weights_only` would leave out the optimiser; said, so that it does not warn of its default.
    trainer.save_checkpoint(path, weights_only=False)
