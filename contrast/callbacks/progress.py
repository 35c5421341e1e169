"""One bar for the whole run."""

from __future__ import annotations

import sys
from typing import Any

import lightning
from tqdm.auto import tqdm

__all__ = ["Progress"]


class Progress(lightning.Callback):
    """A bar over all steps of the run with loss, rate, speed and the online accuracy, on standard error.

    Args:
        every_n_steps: between updates of the numbers, so that a fast device is not made to wait for them.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._bar: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            self._bar = tqdm(
                total=total, initial=trainer.global_step, unit="step", desc="pretrain", file=sys.stderr, mininterval=0.5
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % self.every_n_steps and self._bar.n < self._bar.total:
            return
        elapsed = self._bar.format_dict["elapsed"]
        done = (self._bar.n - self._bar.initial) * trainer.accumulate_grad_batches
        numbers = {
            "loss": f"{outputs['loss'].item():.3f}",
            "rate": f"{trainer.optimizers[0].param_groups[0]['lr']:.2g}",
            "samples/s": f"{done * len(batch.index) * trainer.world_size / max(elapsed, 1e-9):,.0f}",
        }
        accuracy = trainer.callback_metrics.get("online/knn_top1")
        if accuracy is not None:
            numbers["kNN"] = f"{accuracy:.1%}"
        self._bar.set_description(f"pretrain, epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
        self._bar.set_postfix(numbers, refresh=False)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
