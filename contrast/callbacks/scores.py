"""Histograms of positive and negative scores over training, from the pairs that the loss really saw."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from contrast.callbacks.histograms import log_histogram
from contrast.distributed import world_size
from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, LossOutput
from contrast.records import append_row
from contrast.run_folder import RunFolder

__all__ = ["BINS", "ScoreRecorder", "ScoreSums"]

BINS = 100
"""Bins of width 0.02 over [-1, 1]; a score beyond counts in the end bin."""


class ScoreSums:
    """Histogram, sum and sum of squares of scores, added up tile by tile on the device they are on."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64, device=device)
        self.moments = torch.zeros(3, dtype=torch.float64, device=device)  # count, sum, sum of squares

    def add(self, score: Tensor, offered: Tensor | None = None) -> None:
        """Add scores, (*h, b, t) or (*h, b), those that `offered` (b, t) keeps."""
        kept = torch.ones_like(score) if offered is None else offered.to(score.dtype).expand_as(score)
        # Clamped before the cast, which would send a huge score to the other end; NaN clamps to nothing.
        place = ((score + 1) * (BINS / 2)).nan_to_num(0.0).clamp(0, BINS - 1).long()
        self.counts.scatter_add_(0, place.flatten(), kept.flatten().double())
        values = score.double()
        weight = kept.double()
        # A score that is left out may be anything, so it is replaced, not multiplied by zero.
        values = torch.where(weight > 0, values, torch.zeros_like(values))
        self.moments += torch.stack([weight.sum(), values.sum(), values.square().sum()])

    def row(self) -> dict[str, Any]:
        """Counts, mean and standard deviation over all processes: the one place that waits for the device."""
        packed = torch.cat([self.counts, self.moments])
        if world_size() > 1:
            torch.distributed.all_reduce(packed)
        *counts, count, total, squares = packed.tolist()
        mean = total / count if count else float("nan")
        variance = squares / count - mean**2 if count else float("nan")
        return {"counts": [int(each) for each in counts], "mean": mean, "std": max(variance, 0.0) ** 0.5}


class ScoreRecorder(lightning.Callback):
    """A row of ``scores.jsonl`` every few steps: histograms of positive and of all negative scores.

    Scores are cosine similarities before the temperature, of the pairs as the loss saw them after its transforms.
    A step that is not observed costs nothing. Losses that are no `ContrastiveLoss` record positives alone.

    Args:
        folder: the run folder.
        every_n_steps: between rows; 0 records nothing.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 10) -> None:
        if every_n_steps < 0:
            raise InputError(f"scores.every_n_steps {every_n_steps} is negative; 0 records nothing")
        self.folder, self.every_n_steps = folder, every_n_steps
        self._step = 0
        self._sums: tuple[ScoreSums, ScoreSums] | None = None

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
        if observed and self._sums is None and isinstance(pl_module.seen, LossOutput):
            self._step, self._sums = step, sum_scores(pl_module.loss, pl_module.seen)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._sums is None or trainer.global_step < self._step:  # the latter while gradients accumulate
            return
        step, (positive, negative), self._sums = self._step, self._sums, None
        row = {"positive": positive.row(), "negative": negative.row()}
        if trainer.is_global_zero:
            append_row(self.folder.scores, {"step": step, "epoch": trainer.current_epoch, **row})
            for name, histogram in row.items():
                log_histogram(trainer.loggers, f"scores/{name}", histogram["counts"], step)


def sum_scores(loss: Any, output: LossOutput) -> tuple[ScoreSums, ScoreSums]:
    """Positive and negative scores of all directions of one step."""
    device = output.loss.device
    positive, negative = ScoreSums(device), ScoreSums(device)
    for pairs in output.pairs:
        if not isinstance(loss, ContrastiveLoss):
            positive.add((pairs.query * pairs.positive).sum(-1))
            continue
        positives, negatives = loss.logits(pairs)
        positive.add(positives.score)
        for tile in negatives.tiles():
            negative.add(tile.score, tile.offered)
    return positive, negative
