"""Scalars of a run: one append-only row every few steps, mirrored to whatever loggers there are."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from typing import Any

import lightning

from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, LearnedTemperature
from contrast.records import append_row, last_row_per_step, read_rows
from contrast.run_folder import RunFolder

__all__ = ["Metrics", "record", "write_table"]


class Metrics(lightning.Callback):
    """Loss, rate and speed in ``metrics.jsonl``, and the same as ``metrics.csv`` when the run ends.

    Columns: step, epoch, seconds (of this process since its start), train/loss (of the step), train/rate,
    train/samples_per_second (all processes, since the last row), train/temperature where it is learned.

    Args:
        folder: the run folder.
        every_n_steps: between rows, at least 1.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise InputError(f"metrics.every_n_steps {every_n_steps} is below 1")
        self.folder, self.every_n_steps = folder, every_n_steps
        self._started = self._last_time = time.perf_counter()
        self._last_step = 0
        self._rate = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = self._last_time = time.perf_counter()
        self._last_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # When the step is over, the schedule has set the next one's.
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._last_step or (step % self.every_n_steps and step != 1):
            return
        row = {"train/loss": outputs["loss"].item(), "train/rate": self._rate}
        now = time.perf_counter()
        row["train/samples_per_second"] = self._samples(trainer, batch, step) / (now - self._last_time)
        loss = getattr(pl_module, "loss", None)
        if isinstance(loss, ContrastiveLoss) and isinstance(loss.temperature, LearnedTemperature):
            row["train/temperature"] = loss.temperature.value.item()
        self._last_time, self._last_step = now, step
        record(self.folder, trainer, row, seconds=now - self._started)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._write_table(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._write_table(trainer)

    def _write_table(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_table(self.folder)

    def _samples(self, trainer: lightning.Trainer, batch: Any, step: int) -> int:
        batches = (step - self._last_step) * trainer.accumulate_grad_batches
        return batches * len(batch.index) * trainer.world_size


def record(folder: RunFolder, trainer: lightning.Trainer, row: dict[str, float], seconds: float | None = None) -> None:
    """Append a row of scalars at the present step, and hand it to the trainer's loggers."""
    if not trainer.is_global_zero:
        return
    place: dict[str, Any] = {"step": trainer.global_step, "epoch": trainer.current_epoch}
    if seconds is not None:
        place["seconds"] = round(seconds, 3)
    append_row(folder.metrics, place | row)
    for logger in trainer.loggers:
        logger.log_metrics({**row, "epoch": trainer.current_epoch}, step=trainer.global_step)


def write_table(folder: RunFolder) -> None:
    """Write ``metrics.csv`` from ``metrics.jsonl``: one row a step."""
    rows = last_row_per_step(read_rows(folder.metrics))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    staged = Path(f"{folder.metrics_table}.tmp")
    with open(staged, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(staged, folder.metrics_table)
