"""Run status and diagnosis callbacks: ``status.json`` and the doctor's findings."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import Any

import lightning
from tqdm.auto import tqdm

from contrast.callbacks.logger_calls import missed_calls
from contrast.doctor import examine
from contrast.errors import InputError, RunStopped
from contrast.methods import ContrastiveMethod
from contrast.run_folder import RunFolder
from contrast.runs.status import State, Status, read_status, utc_now, write_status

__all__ = ["NOTHING", "DoctorLog", "RunStatus"]

SIGNAL = 128  # exit codes above it are 128 + signal number
MOST_WORDS = 500
NOTHING = "no step was trained: the run ended before its first step"


class RunStatus(lightning.Callback):
    """Write ``status.json`` at the start of a run, every few seconds, and at its end, including a stop or a failure.

    A killed process cannot write, so its file still says `running`; a reader checks whether the process exists.

    Args:
        folder: the run folder.
        every_seconds: seconds between writes during training.
    """

    def __init__(self, folder: RunFolder, every_seconds: float = 5.0) -> None:
        self.folder, self.every_seconds = folder, every_seconds
        self._started = ""
        self._written = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = utc_now()
        self._write(trainer, pl_module, "running")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._written >= self.every_seconds:
            self._write(trainer, pl_module, "running")

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Not in `on_train_end`: it comes before the last checkpoint is written, and a run that was killed just after
        # its last step does not call it after a resume.
        if trainer.global_step:
            missed = missed_calls(trainer.loggers) if trainer.is_global_zero else ""
            self._write(trainer, pl_module, "finished", missed)
        else:
            self._write(trainer, pl_module, "failed", NOTHING)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        # A resume that failed before its first step says nothing about the state of the run.
        before = read_status(self.folder.status)
        unheard = before is None or (before.state == "starting" and not before.step)
        if self._started or unheard:
            by_hand = isinstance(exception, KeyboardInterrupt | SystemExit)
            stopped = by_hand or (isinstance(exception, RunStopped) and exception.exit_code > SIGNAL)
            with contextlib.suppress(OSError):  # for example a full disk, which the exception reports
                self._write(trainer, pl_module, "stopped" if stopped else "failed", _in_one_line(exception))

    def _write(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, state: State, message: str = ""
    ) -> None:
        if not trainer.is_global_zero:
            return
        self._written, now = time.monotonic(), utc_now()
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        status = Status(
            state=state,
            step=trainer.global_step,
            steps=(pl_module.planned_steps or None) if isinstance(pl_module, ContrastiveMethod) else None,
            # After the last epoch, Lightning's epoch number is one too high.
            epoch=trainer.current_epoch if epochs is None else min(trainer.current_epoch, epochs - 1),
            epochs=epochs,
            started=self._started or now,
            updated=now,
            host=socket.gethostname(),
            process=os.getpid(),
            message=message,
            checkpoint=self.folder.last_checkpoint.is_file() or self.folder.previous_checkpoint.is_file(),
        )
        write_status(self.folder.status, status)


def _in_one_line(exception: BaseException) -> str:
    """Exception as one line.

    The project's own errors are sentences; other exceptions are shown with their class name.
    """
    if isinstance(exception, KeyboardInterrupt | SystemExit):
        return "stopped by a signal"
    text = " ".join(str(exception).split())
    ours = isinstance(exception, InputError | RunStopped)
    return (text if ours else f"{type(exception).__name__}: {text}".rstrip(": "))[:MOST_WORDS]


_TIMES = 20
_TOLD_AT_THE_START = ("input-", "inactive")


class DoctorLog(lightning.Callback):
    """Log each finding of `contrast doctor` as a line when it first appears.

    The doctor runs at the end of some epochs, about twenty per run and the last, because reading all rows takes as long
    as a few steps.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._said: set[str] = set()
        self._looks = 0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, ContrastiveMethod):
            return
        looks = int(pl_module.progress() * _TIMES)
        if looks == self._looks:
            return
        self._looks = looks
        for finding in examine(self.folder, progress=pl_module.progress()).findings:
            if finding.rule not in self._said and not finding.rule.startswith(_TOLD_AT_THE_START):
                self._said.add(finding.rule)
                # tqdm.write keeps the progress bar intact.
                tqdm.write(f"doctor  {finding.rule}: {finding.seen} {finding.fix}", file=sys.stderr)
