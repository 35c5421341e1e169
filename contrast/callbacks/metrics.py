"""Scalars of a run: one append-only row every few steps, mirrored to whatever loggers there are."""

from __future__ import annotations

import contextlib
import csv
import time
from typing import Any

import lightning
import torch

from contrast.callbacks.logger_calls import sent
from contrast.errors import InputError
from contrast.losses import LearnedTemperature, LogitLoss
from contrast.methods import ContrastiveMethod
from contrast.records import append_row, last_row_per_step, read_rows
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file

__all__ = ["Metrics", "record", "write_table"]


class Metrics(lightning.Callback):
    """Loss, rate and speed in ``metrics.jsonl``, and the same as ``metrics.csv`` when the run ends.

    There is a row of the first step, of every few steps, and of the last step that is planned.

    Columns: step, epoch, seconds (of this process since its start), train/loss (of the step: the mean over its queries,
    of all batches and processes), train/rate, train/samples_per_second (all processes, since the last row),
    train/temperature where it is learned.

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
        self._step = self._planned = 0
        self._losses: list[torch.Tensor] = []  # of the batches of one step
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
        # When the step is over, the schedule has set the next one's.
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not outputs["loss"], which Lightning divides where gradients are added up.
        self._losses.append(outputs["output"].loss)
        step = trainer.global_step
        if step == self._step:  # gradients are still being added up
            return
        losses, self._losses, self._step = torch.stack(self._losses), [], step
        if step % self.every_n_steps and step not in (1, self._planned):
            return
        # Each process's loss is its share of the mean over all queries: the mean of shares is that mean.
        loss_of_all = trainer.strategy.reduce(losses.mean(), reduce_op="mean")
        row = {"train/loss": float(loss_of_all), "train/rate": self._rate}
        now = time.perf_counter()
        row["train/samples_per_second"] = self._samples(trainer, batch, step) / (now - self._last_time)
        loss = getattr(pl_module, "loss", None)
        if isinstance(loss, LogitLoss) and isinstance(loss.temperature, LearnedTemperature):
            row["train/temperature"] = loss.temperature.value.item()
        self._last_time, self._last_step = now, step
        record(self.folder, trainer, row, seconds=now - self._started)
        self._wrote = True

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Not at the training's end, which a run that was killed just before does not come to again.
        self._write_table(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if self._wrote:  # else rows could not be written, and the table of before stays as it is
            with contextlib.suppress(OSError):  # of a full disk, say, which is what the exception tells
                self._write_table(trainer)

    def _write_table(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_table(self.folder)

    def _samples(self, trainer: lightning.Trainer, batch: Any, step: int) -> int:
        batches = (step - self._last_step) * trainer.accumulate_grad_batches
        return batches * len(batch.index) * trainer.world_size


def record(folder: RunFolder, trainer: lightning.Trainer, row: dict[str, float], seconds: float | None = None) -> None:
    """Append a row of scalars at the present step, and hand it to the trainer's loggers and to its other callbacks."""
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
    """Write ``metrics.csv`` from ``metrics.jsonl``: one row a step."""
    rows = last_row_per_step(read_rows(folder.metrics))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(folder.metrics_table) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
