"""What a resumed run does first: it tells its files of rows and its loggers from which step it goes on."""

from __future__ import annotations

import lightning

from contrast.callbacks.resumed_loggers import prepare
from contrast.records import mark_resumed
from contrast.run_folder import RunFolder

__all__ = ["ResumedRecords"]


class ResumedRecords(lightning.Callback):
    """A line in each file of rows where a run goes on, so that steps which are trained again count once.

    TensorBoard drops what it has of those steps; W&B takes nothing back and keeps what it was sent of them first.

    Args:
        folder: the run folder.

    Attributes:
        began: whether what a checkpoint holds was taken over, and training has begun.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.began = folder, False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.began = True
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            for logger in trainer.loggers:
                prepare(logger, trainer.global_step)
            for path in self.folder.records:
                mark_resumed(path, trainer.global_step)
