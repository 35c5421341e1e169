"""A loss that is NaN or infinite stops the run before it spoils a checkpoint."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch

from contrast.distributed import gather_detached
from contrast.doctor.input import input_findings
from contrast.errors import RunStopped
from contrast.losses import Piece
from contrast.records import read_object
from contrast.run_folder import RunFolder

__all__ = ["FiniteLoss"]


class FiniteLoss(lightning.Callback):
    """Stop at the first loss that is no number, and say at which step, what it was and why it likely happened.

    On a CPU every step is looked at. On other devices the first bad step is noted there without waiting, and asked
    for every few steps and before each checkpoint, so that none is ever written after it.

    Args:
        folder: the run folder, for the line that says how to go on.
        every_n_steps: between questions to a device that is not the CPU.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 25) -> None:
        self.folder, self.every_n_steps = folder, every_n_steps
        self._noted: torch.Tensor | None = None  # step, value, whether embeddings were finite

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["output"].loss.double()
        alone = trainer.world_size == 1
        if alone and loss.device.type == "cpu" and loss.isfinite():  # nothing waits, and nothing needs to be noted
            return
        finite = [pairs.query.isfinite().all() for pairs in outputs["output"].pairs]
        embeddings = torch.stack(finite).all() if finite else torch.ones_like(loss)
        seen = torch.stack([torch.full_like(loss, trainer.global_step), loss, embeddings.double()])
        if self._noted is None:
            self._noted = torch.zeros_like(seen)
        self._noted = torch.where(self._noted[1].isfinite(), seen, self._noted)
        if loss.device.type == "cpu" or trainer.global_step % self.every_n_steps == 0:
            self._ask(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._ask(trainer, pl_module)

    def _ask(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._noted is None:
            return
        # Of all processes, which stop together: one that stopped alone would be waited for.
        of_all = gather_detached(self._noted[None]).tolist()
        bad = [noted for noted in of_all if not math.isfinite(noted[1])]
        if not bad:
            return
        step, value, embeddings = min(bad)
        loss = pl_module.loss.describe() if isinstance(pl_module.loss, Piece) else str(pl_module.loss)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        cause = (
            f"the embeddings were finite, so the loss overflowed ({loss}): raise its temperature"
            if embeddings
            else f"the encoder output NaN or Inf at rate {rate:g}: lower the rate, warm up longer or clip gradients"
        )
        broken = [each for each in input_findings(read_object(self.folder.input) or {}) if each.severity == "problem"]
        if broken:
            cause = f"{broken[0].rule}: {broken[0].seen} {broken[0].mend}".rstrip(".")
        kept = f"the last good checkpoint is {self.folder.last_checkpoint}"
        if not self.folder.last_checkpoint.exists():
            kept = "no checkpoint had been written yet"
        raise RunStopped(f"the loss was {value} at step {int(step)}; likely cause: {' '.join(cause.split())}; {kept}")
