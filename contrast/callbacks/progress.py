"""One bar for the whole run."""

from __future__ import annotations

import sys
from typing import Any

import lightning
from tqdm.auto import tqdm

__all__ = ["Progress"]

_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def _fitting(bar: Any, numbers: list[str]) -> str:
    """As many of the numbers as leave the bar its ten columns, which tqdm gives it where it knows no width."""
    shown = bar.format_dict
    columns = shown["ncols"]
    for count in range(len(numbers), 0, -1):
        text = ", ".join(numbers[:count])
        whole = bar.format_meter(**{**shown, "ncols": None, "postfix": text})
        if columns is None or len(whole) <= columns:
            return text
    return ""


class Progress(lightning.Callback):
    """A bar over all steps of the run with loss, speed, the online accuracy and rate, on standard error.

    On a narrow terminal the last of these numbers are left out, so that none is cut and the bar keeps ten columns.

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
                total=total,
                initial=trainer.global_step,
                desc="pretrain",
                file=sys.stderr,
                mininterval=0.5,
                dynamic_ncols=True,
                bar_format=_FORMAT,
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
            "samples/s": f"{done * len(batch.index) * trainer.world_size / max(elapsed, 1e-9):,.0f}",
        }
        accuracy = trainer.callback_metrics.get("online/knn_top1")
        if accuracy is not None:
            numbers["kNN"] = f"{accuracy:.1%}"
        numbers["rate"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.2g}"
        planned = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}{planned}", refresh=False)
        self._bar.set_postfix_str(
            _fitting(self._bar, [f"{name}={text}" for name, text in numbers.items()]), refresh=False
        )

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
