"""Checkpoints: when they are taken, and how a run that is asked to stop does so without losing a step."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.plugins.io import TorchCheckpointIO

from contrast.callbacks.signals import StopSignals, requeue
from contrast.checkpoint_file import FORMAT, write_checkpoint
from contrast.data import TrainingData
from contrast.errors import InputError, RunStopped
from contrast.next_command import resume_command
from contrast.run_folder import RunFolder
from contrast.run_length import RunLength

__all__ = ["AtomicCheckpoints", "Checkpoints", "batch_record"]

TIME_LIMIT = 24
"""SIGXCPU, the signal of a time limit: ``trainer.max_time`` ends a run as this signal would."""


def batch_record(trainer: lightning.Trainer) -> dict[str, int]:
    """How a step's samples are shared out, for a checkpoint: a resume that shares them out otherwise is refused."""
    record = {
        "processes": trainer.world_size,
        "batch_size": int(getattr(trainer.datamodule, "batch_size", 0)),  # type: ignore[attr-defined]  # untyped
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }
    return record | {"global_batch": math.prod(record.values())}


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoint files that appear whole, with a checksum; of ``last.ckpt`` the one before is kept.

    Args:
        folder: the run folder.
        changed: what is done to the content of a checkpoint that is loaded, where the data are not those it was
            written on; nothing if None.
    """

    def __init__(self, folder: RunFolder, changed: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.folder, self.changed = folder, changed

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The content of a checkpoint, numbered as the data are now."""
        content: dict[str, Any] = super().load_checkpoint(path, *arguments, **options)
        if self.changed is not None:
            self.changed(content)
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        last = Path(path) == self.folder.last_checkpoint
        write_checkpoint(checkpoint, Path(path), self.folder.previous_checkpoint if last else None)


class Checkpoints(lightning.Callback):
    """``checkpoints/last.ckpt`` every few epochs, at the end and when asked to stop; on request some kept for good.

    Ctrl-C, SIGTERM, SIGHUP and, in a job of SLURM's, its warning SIGUSR1 let the step finish. Then the run is saved and
    stops with exit code 128 and the signal's number, and a resumed run goes on exactly where this one was. After
    SIGUSR1 SLURM is asked to start the job again. A second signal stops the run at once, as does one before the first
    step is done.

    A step is whole when its gradients have been used; one that ends an epoch is saved once the epoch's end is done, so
    that what is measured there is not lost. Where ``trainer.max_steps`` ends a run within an epoch, Lightning counts
    that epoch as done; the checkpoint keeps the place within it, so that a longer run goes on with the next batch.

    Args:
        folder: the run folder.
        config: the resolved configuration, kept in every checkpoint.
        every_n_epochs: between writes of last.ckpt.
        every_n_steps: between further writes within an epoch; 0 makes none.
        keep_every_n_epochs: between checkpoints under their own names; 0 keeps none.
        max_seconds: of training, after which the run is saved and stops as by a signal; None sets no limit.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: dict[str, Any],
        every_n_epochs: int = 1,
        every_n_steps: int = 0,
        keep_every_n_epochs: int = 0,
        max_seconds: float | None = None,
    ) -> None:
        if every_n_epochs < 1 or every_n_steps < 0 or keep_every_n_epochs < 0:
            raise InputError(
                f"checkpoints.every_n_epochs {every_n_epochs} must be at least 1, every_n_steps {every_n_steps} and "
                f"keep_every_n_epochs {keep_every_n_epochs} at least 0"
            )
        self.folder, self.config = folder, config
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.keep_every_n_epochs = keep_every_n_epochs
        self.max_seconds = max_seconds
        self._began = 0.0
        self._signals = StopSignals()
        self._stop = 0  # the signal that ends the run at the end of this epoch
        self._saved = -1  # the step that last.ckpt is of
        self._within: dict[str, Any] | None = None  # what to save of a step that ends the run within an epoch

    def never_acts(self, run: RunLength) -> str | None:
        """Whether a checkpoint that is asked for is never written; ``last.ckpt`` always is, at the end."""
        if self.keep_every_n_epochs > run.epochs:
            has = f"{run.epochs} epoch{'' if run.epochs == 1 else 's'}"
            kept = f"checkpoints.keep_every_n_epochs is {self.keep_every_n_epochs} and this run has {has}"
            return f"{kept}: no checkpoint will be kept under its own name"
        if self.every_n_steps > run.steps:
            has = f"{run.steps:,} step{'' if run.steps == 1 else 's'}"
            kept = f"checkpoints.every_n_steps is {self.every_n_steps:,} and this run has {has}"
            return f"{kept}: none will be written within an epoch"
        return None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        epochs = trainer.fit_loop.epoch_progress.state_dict()["current"]["processed"]  # those that are over
        checkpoint["contrast"] = {
            "format": FORMAT,
            "epochs": epochs,
            "config": self.config,
            "batch": batch_record(trainer),
            "optimizers": [type(optimizer).__name__ for optimizer in trainer.optimizers],
        }
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, TrainingData):
            checkpoint["contrast"]["data"] = data.identity.state()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._signals.install()
        self._began = time.monotonic()

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._signals.begun = True  # what is left of the first step takes a moment

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        received = self._signals.received() or self._time_is_up(trainer)
        done = batch_idx + 1
        over = done >= trainer.num_training_batches
        self._within = None
        if over or trainer.global_step == trainer.max_steps:
            self._stop = received
        if over:
            return
        if done % trainer.accumulate_grad_batches == 0:
            if trainer.global_step == trainer.max_steps or trainer.should_stop:
                self._within = _content(trainer)
                return
            if received:
                self._save_and_stop(trainer, received)
            if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
                self._save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if self.keep_every_n_epochs and done % self.keep_every_n_epochs == 0 and self._within is None:
            _save(trainer, self.folder.checkpoints / f"epoch-{done:04d}.ckpt")
        if self._stop and not _is_over(trainer):
            self._save_and_stop(trainer, self._stop)
        asked = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if asked or done % self.every_n_epochs == 0 or _is_over(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._saved != trainer.global_step:  # somebody else's callback has stopped it
            self._save(trainer)
        self._signals.restore()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        # Here and not in `teardown`, before which Lightning gives back the signals that it had itself.
        self._signals.restore()

    def _time_is_up(self, trainer: lightning.Trainer) -> int:
        """`TIME_LIMIT` once the time is up by the first process's clock, for all of them; else 0."""
        if self.max_seconds is None:
            return 0
        over = time.monotonic() - self._began >= self.max_seconds
        return TIME_LIMIT if trainer.strategy.broadcast(over) else 0

    def _save(self, trainer: lightning.Trainer) -> None:
        if self._within is None:
            _save(trainer, self.folder.last_checkpoint)
        else:
            trainer.strategy.save_checkpoint(self._within, self.folder.last_checkpoint)
            trainer.strategy.barrier("Checkpoints._save")
        self._saved = trainer.global_step

    def _save_and_stop(self, trainer: lightning.Trainer, received: int) -> None:
        self._save(trainer)
        asked = ""
        if received == signal.SIGUSR1 and trainer.is_global_zero:
            asked = f"; {requeue()}"
        names = {signal.SIGINT: "interrupted", TIME_LIMIT: "stopped by trainer.max_time"}
        by = names.get(received) or f"stopped by {signal.Signals(received).name}"
        raise RunStopped(
            f"{by} at step {trainer.global_step}, all of it saved{asked}; go on with: {resume_command(self.folder)}",
            exit_code=128 + received,
        )


def _is_over(trainer: lightning.Trainer) -> bool:
    return trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps


def _content(trainer: lightning.Trainer) -> dict[str, Any]:
    """What a checkpoint of this moment holds; weights are not copied, as the run ends here."""
    content: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    return content | {name: copy.deepcopy(content[name]) for name in ("loops", "callbacks", "lr_schedulers")}


def _save(trainer: lightning.Trainer, path: Path) -> None:
    # Lightning's `weights_only` would leave out the optimiser; said, so that it does not warn of its default.
    trainer.save_checkpoint(path, weights_only=False)
