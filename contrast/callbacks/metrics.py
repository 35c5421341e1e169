"""Scalar metrics of a run: ``metrics.jsonl``, ``metrics.csv`` and the loggers."""

from __future__ import annotations

import contextlib
import csv
import time
from typing import Any

import lightning
import torch

from contrast.callbacks.logger_calls import sent
from contrast.errors import InputError
from contrast.losses import LogitLoss
from contrast.methods import ContrastiveMethod
from contrast.records import append_row, last_row_per_step, read_rows
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file

__all__ = ["Metrics", "record", "write_table"]


class Metrics(lightning.Callback):
    """Record loss, learning rate and speed in ``metrics.jsonl``, and write ``metrics.csv`` when the run ends.

    Rows are written for the first step, every few steps, and the last planned step. Columns:

    - step, epoch.
    - seconds: time since the start of this process's training.
    - train/loss: loss of the step, the mean over its queries, of all accumulated batches and processes.
    - train/rate: learning rate.
    - train/samples_per_second: over all processes, since the last row.
    - train/temperature: where the loss has a single temperature that changes, such as a learned one.

    Args:
        folder: the run folder.
        every_n_steps: steps between rows, at least 1.

    Raises:
        InputError: where `every_n_steps` is below 1.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise InputError(f"metrics.every_n_steps {every_n_steps} is below 1: give 1 or more")
        self.folder, self.every_n_steps = folder, every_n_steps
        self._started = self._last_time = time.perf_counter()
        self._last_step = 0
        self._rate = 0.0
        self._step = self._planned = 0
        self._losses: list[torch.Tensor] = []  # losses of the accumulated batches of one step
        self._wrote = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = self._last_time = time.perf_counter()
        self._last_step = self._step = trainer.global_step
        self._planned = pl_module.planned_steps if isinstance(pl_module, ContrastiveMethod) else 0
        self._losses.clear()
        for row in last_row_per_step(read_rows(self.folder.metrics)) if trainer.global_step else []:
            known = {name: value for name, value in row.items() if "/" in name and isinstance(value, int | float)}
            trainer.callback_metrics.update({name: torch.tensor(float(value)) for name, value in known.items()})

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # At the end of the step, the schedule has already set the next step's rate.
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not outputs["loss"], which Lightning divides by the number of accumulated batches.
        self._losses.append(outputs["output"].loss)
        step = trainer.global_step
        if step == self._step:  # gradients still accumulate
            return
        losses, self._losses, self._step = torch.stack(self._losses), [], step
        if step % self.every_n_steps and step not in (1, self._planned):
            return
        # Each process's loss is its share of the mean over all queries, so the mean over processes is the mean over all
        # queries.
        loss_of_all = trainer.strategy.reduce(losses.mean(), reduce_op="mean")
        row = {"train/loss": float(loss_of_all), "train/rate": self._rate}
        now = time.perf_counter()
        row["train/samples_per_second"] = self._samples(trainer, batch, step) / (now - self._last_time)
        loss = getattr(pl_module, "loss", None)
        tau = loss.temperature.single() if isinstance(loss, LogitLoss) and not loss.temperature.constant else None
        if tau is not None:
            row["train/temperature"] = tau.item()
        self._last_time, self._last_step = now, step
        record(self.folder, trainer, row, seconds=now - self._started)
        self._wrote = True

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Not in `on_train_end`: a run that was killed just before it does not call it after a resume.
        self._write_table(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if self._wrote:  # else no row could be written: keep the old table
            with contextlib.suppress(OSError):  # for example a full disk, which the exception reports
                self._write_table(trainer)

    def _write_table(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_table(self.folder)

    def _samples(self, trainer: lightning.Trainer, batch: Any, step: int) -> int:
        batches = (step - self._last_step) * trainer.accumulate_grad_batches
        return batches * len(batch.index) * trainer.world_size


def record(folder: RunFolder, trainer: lightning.Trainer, row: dict[str, float], seconds: float | None = None) -> None:
    """Append a row of scalars at the current step, and pass it to the trainer's loggers and other callbacks.

    Args:
        folder: the run folder.
        trainer: the trainer of the run.
        row: scalars by name.
        seconds: time since the start of training; None leaves it out.
    """
    trainer.callback_metrics.update({name: torch.tensor(float(value)) for name, value in row.items()})
    if not trainer.is_global_zero:
        return
    place: dict[str, Any] = {"step": trainer.global_step, "epoch": trainer.current_epoch}
    if seconds is not None:
        place["seconds"] = round(seconds, 3)
    append_row(folder.metrics, place | row)
    for logger in trainer.loggers:
        there = sent(logger, trainer.global_step)
        new = {name: value for name, value in row.items() if name not in there}
        if new:
            logger.log_metrics({**new, "epoch": trainer.current_epoch}, step=trainer.global_step)


def write_table(folder: RunFolder) -> None:
    """Write ``metrics.csv`` from ``metrics.jsonl``, one row per step."""
    rows = last_row_per_step(read_rows(folder.metrics))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(folder.metrics_table) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
