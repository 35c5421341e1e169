"""Checkpoints during training, and signals that stop a run."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.io import TorchCheckpointIO

from contrast.data import TrainingData
from contrast.errors import InputError, RunStopped, counted
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import FORMAT, write_checkpoint
from contrast.runs.length import RunLength
from contrast.runs.next_command import resume_command
from contrast.stop_signals import SAME_REQUEST, end_at_once

__all__ = ["AtomicCheckpoints", "Checkpoints", "StopSignals", "batch_record", "requeue"]


class StopSignals:
    """Signal handling: stop a run on Ctrl-C, SIGTERM, SIGHUP, or SLURM's warning SIGUSR1 inside a SLURM job.

    The first signal is recorded, and the run stops when a step can be saved. Before the first step it stops at once. A
    second signal also stops the run at once, unless it belongs to the same request. SLURM's warning may arrive several
    times, and before any other signal.

    Attributes:
        begun: whether the first step of this process is almost done, so that there is something to save.
    """

    def __init__(self) -> None:
        self.begun = False
        self._received = 0
        self._asked: float | None = None  # time of the first signal; warnings do not count
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def install(self) -> None:
        """Install the signal handlers, in the main thread only: Python delivers signals to no other thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` ignores SIGHUP
            numbers.append(signal.SIGHUP)
        if "SLURM_JOB_ID" in os.environ:
            numbers.append(signal.SIGUSR1)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        if dist.is_available() and dist.is_initialized():
            # A separate group on the CPU, so that agreeing on a signal does not synchronise with a device.
            self._group = dist.new_group(backend="gloo")

    def restore(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before, self._received, self._asked, self.begun = {}, 0, None, False
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def received(self) -> int:
        """Highest signal number that any process has received; 0 for none.

        This is a collective call: every process must make it. Processes receive a signal at different times. If each
        process acted on its own signal, one would wait for the others forever.
        """
        if self._group is None:
            return self._received
        highest = torch.tensor(self._received)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=self._group)
        return int(highest)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number
        if number == getattr(signal, "SIGUSR1", None):
            return
        now = time.monotonic()
        again = self._asked is not None and (number == signal.SIGINT or now - self._asked > SAME_REQUEST)
        if again or not self.begun:
            end_at_once(number)
        self._asked = now if self._asked is None else self._asked


def requeue() -> str:
    """Ask SLURM to requeue this job; returns the outcome as a sentence."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    except OSError as error:
        return f"SLURM could not be asked to start job {job} again ({error.strerror})"
    if done.returncode:
        return f"SLURM did not start job {job} again ({' '.join(done.stderr.split())[:120]})"
    return f"SLURM will start job {job} again"


TIME_LIMIT = 24
"""Signal number of a time limit (SIGXCPU): ``trainer.max_time`` ends a run like this signal."""


def batch_record(trainer: lightning.Trainer) -> dict[str, int]:
    """Batch layout for a checkpoint; a resume with another layout is refused.

    Args:
        trainer: the trainer of the run.

    Returns:
        Number of processes, batch size, accumulated batches, and the product of the three.
    """
    record = {
        "processes": trainer.world_size,
        "batch_size": int(getattr(trainer.datamodule, "batch_size", 0)),  # type: ignore[attr-defined]  # untyped
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }
    return record | {"global_batch": math.prod(record.values())}


class AtomicCheckpoints(TorchCheckpointIO):
    """Atomic checkpoint files with a checksum; the previous ``last.ckpt`` is kept as well.

    Args:
        folder: the run folder.
        changed: function that adapts the content of a loaded checkpoint to changed data; None for no change.
    """

    def __init__(self, folder: RunFolder, changed: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.folder, self.changed = folder, changed

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Load a checkpoint; samples are renumbered where the data changed."""
        content: dict[str, Any] = super().load_checkpoint(path, *arguments, **options)
        if self.changed is not None:
            self.changed(content)
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        last = Path(path) == self.folder.last_checkpoint
        write_checkpoint(checkpoint, Path(path), self.folder.previous_checkpoint if last else None)


class Checkpoints(lightning.Callback):
    """Checkpoint callback: write ``checkpoints/last.ckpt`` every few epochs, at the end and on a stop signal.

    Optionally, further checkpoints are kept under their own names. On Ctrl-C, SIGTERM, SIGHUP and, inside a SLURM job,
    SLURM's warning SIGUSR1, the current step is completed. The run is then saved and stops with exit code 128 + signal
    number; a resumed run continues exactly there. After SIGUSR1, SLURM is asked to requeue the job. A second signal
    stops the run at once, and so does a signal before the first step is done.

    A step is complete when its gradients have been used. A step that ends an epoch is saved after the end of the epoch,
    so that the measurements made there are not lost. Where ``trainer.max_steps`` ends a run within an epoch, Lightning
    counts that epoch as done. The checkpoint then keeps the position within the epoch, so that a longer run continues
    with the next batch.

    Args:
        folder: the run folder.
        config: the resolved configuration, stored in every checkpoint.
        every_n_epochs: epochs between writes of last.ckpt, at least 1.
        every_n_steps: steps between additional writes within an epoch; 0 for none.
        keep_every_n_epochs: epochs between checkpoints that are kept under their own names; 0 for none.
        max_seconds: training time in seconds, after which the run is saved and stops as on a signal; None for no limit.

    Raises:
        InputError: where a number is out of range.
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
        self._stop = 0  # signal that stops the run at the end of this epoch
        self._saved = -1  # step of last.ckpt
        self._within: dict[str, Any] | None = None  # checkpoint content where max_steps ends the run within an epoch

    def never_acts(self, run: RunLength) -> str | None:
        """Reason why a requested checkpoint is never written within this run; None where each is written.

        ``last.ckpt`` is always written at the end.

        Args:
            run: planned length of the run.
        """
        if self.keep_every_n_epochs > run.epochs:
            has = counted(run.epochs, "epoch")
            kept = f"checkpoints.keep_every_n_epochs is {self.keep_every_n_epochs} and this run has {has}"
            return f"{kept}: no numbered checkpoint will be kept"
        if self.every_n_steps > run.steps:
            has = counted(run.steps, "step")
            kept = f"checkpoints.every_n_steps is {self.every_n_steps:,} and this run has {has}"
            return f"{kept}: no checkpoint will be written within an epoch"
        return None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        epochs = trainer.fit_loop.epoch_progress.state_dict()["current"]["processed"]  # epochs that are done
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
        self._signals.begun = True  # the rest of the first step is short

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
        if self._saved != trainer.global_step:  # another callback stopped the run
            self._save(trainer)
        self._signals.restore()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        # Not in `teardown`: before it, Lightning restores the handlers of its own signals.
        self._signals.restore()

    def _time_is_up(self, trainer: lightning.Trainer) -> int:
        """`TIME_LIMIT` once the time limit is exceeded, else 0; the first process's clock decides for all processes."""
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
    """Content of a checkpoint of this moment; weights are not copied, because the run ends here."""
    content: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    return content | {name: copy.deepcopy(content[name]) for name in ("loops", "callbacks", "lr_schedulers")}


def _save(trainer: lightning.Trainer, path: Path) -> None:
    # `weights_only=True` would leave out the optimiser. False is given so that Lightning does not warn of its default.
    trainer.save_checkpoint(path, weights_only=False)
