"""Histograms of positive and negative scores over training, from the pairs that the loss really saw."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from contrast.callbacks.histograms import log_histogram
from contrast.callbacks.metrics import record
from contrast.callbacks.observation import Observation, observe
from contrast.callbacks.score_sums import BINS
from contrast.errors import InputError
from contrast.losses import Loss, LossOutput
from contrast.records import append_row
from contrast.run_folder import RunFolder

__all__ = ["ScoreRecorder"]


class ScoreRecorder(lightning.Callback):
    """A row of ``scores.jsonl`` every few steps: histograms of positive and of all negative scores.

    Scores are cosine similarities before the temperature, of the pairs as the loss saw them after its transforms; made
    negatives are counted among all and again by kind. Shares and means of the same step (`observe`) go to
    ``metrics.jsonl``. A step that is not observed costs nothing. Losses that are no `ContrastiveLoss` record positives
    alone.

    Args:
        folder: the run folder.
        every_n_steps: between rows; 0 records nothing.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 10) -> None:
        if every_n_steps < 0:
            raise InputError(f"scores.every_n_steps {every_n_steps} is negative; 0 records nothing")
        self.folder, self.every_n_steps = folder, every_n_steps
        self._step = 0
        self._seen: Observation | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero and self.every_n_steps and not self.folder.scores.exists():
            edges = [round(-1 + 2 * edge / BINS, 6) for edge in range(BINS + 1)]
            append_row(self.folder.scores, {"format": 1, "edges": edges})

    @torch.no_grad()
    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Add up scores now: after backward a bank's rows are the next step's."""
        step = trainer.global_step + 1
        observed = self.every_n_steps and (step % self.every_n_steps == 0 or step == 1)
        output, loss_of = pl_module.seen, pl_module.loss
        if observed and self._seen is None and isinstance(output, LossOutput) and isinstance(loss_of, Loss):
            self._step, self._seen = step, observe(loss_of, output)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._seen is None or trainer.global_step < self._step:  # the latter while gradients accumulate
            return
        step, seen, self._seen = self._step, self._seen, None
        histograms = {name: sums.row() for name, sums in seen.histograms.items()}
        averages = {name: average.value() for name, average in seen.averages.items()}
        if trainer.is_global_zero:
            append_row(self.folder.scores, {"step": step, "epoch": trainer.current_epoch, **histograms})
            for name, histogram in histograms.items():
                log_histogram(trainer.loggers, f"scores/{name}", histogram["counts"], step)
        if averages:
            record(self.folder, trainer, averages)
