"""Which samples a bad-pair mining has flagged, epoch by epoch."""

from __future__ import annotations

import lightning

from contrast.losses import BadPairMining
from contrast.records import append_row
from contrast.run_folder import RunFolder

__all__ = ["FlaggedPairs"]


class FlaggedPairs(lightning.Callback):
    """A row of ``flagged.jsonl`` at the end of each epoch in which a `BadPairMining` flags pairs.

    A row has step, epoch, mean and deviation of the samples' mean losses, and the flagged samples' indices: `noisy`
    (loss too low) and `faulty` (too high).

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for mining in pl_module.modules():
            if isinstance(mining, BadPairMining) and trainer.current_epoch >= mining.warmup_epochs:
                flagged = {
                    "noisy": mining.is_noisy.nonzero().flatten().tolist(),
                    "faulty": mining.is_faulty.nonzero().flatten().tolist(),
                }
                place = {"step": trainer.global_step, "epoch": trainer.current_epoch}
                statistics = {"mean": mining.mean.item(), "deviation": mining.deviation.item()}
                append_row(self.folder.flagged, {**place, **statistics, **flagged})
