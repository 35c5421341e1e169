"""What W&B and TensorBoard show of a run beside its scalars and histograms: configuration, pictures and the report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from contrast.callbacks.guarded_loggers import attempt
from contrast.callbacks.mirrored_figures import figures
from contrast.callbacks.mirrored_gallery import Sheet, as_wandb_table, sheets_of, to_tensorboard
from contrast.callbacks.resumed_loggers import flush, sent
from contrast.callbacks.wandb_run import attach_report, go_on
from contrast.records import read_rows
from contrast.run_folder import RunFolder

__all__ = ["Mirror"]

_FIGURES = {"scores/over_training", "hardness/by_rank"}


class Mirror(lightning.Callback):
    """The run folder's pictures to W&B and TensorBoard, and the configuration to every logger.

    With every row of ``gallery.jsonl`` its pairs and two figures of the run so far; at the end, also of a run that was
    stopped or failed, the figures again, and for W&B the report page as an artifact. A picture that cannot be drawn or
    sent costs a line of warning, never the run. This callback comes after those that write what it reads.

    Args:
        folder: the run folder.
        config: the resolved configuration.
    """

    def __init__(self, folder: RunFolder, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config
        self._started = False
        self._drawn = -1

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if trainer.ckpt_path is None or not _has_hyperparameters(logger):
                logger.log_hyperparams(self.config)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = True
        for logger in _showing(trainer):
            if isinstance(logger, WandbLogger):
                attempt(logger, "resume", partial(_go_on, logger, self.folder, trainer.global_step))

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.is_global_zero:
            flush(trainer.loggers)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not _showing(trainer):
            return
        rows = read_rows(self.folder.gallery)
        if rows and rows[-1].get("step") == trainer.global_step:
            self._show(trainer, rows[-1])

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._end(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._end(trainer)

    def _end(self, trainer: lightning.Trainer) -> None:
        loggers = _showing(trainer)
        if not self._started or not loggers:
            return
        if self._drawn != trainer.global_step:
            self._show(trainer, None)
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                attempt(logger, "report", partial(_attach_report, logger, self.folder))

    def _show(self, trainer: lightning.Trainer, row: dict[str, Any] | None) -> None:
        """The figures, and the pairs of a row of the gallery where one is given."""
        self._drawn = trainer.global_step
        for logger in _showing(trainer):
            if not sent(logger, trainer.global_step) & _FIGURES:
                attempt(logger, "pictures", partial(_show_at, logger, self.folder, row, trainer.global_step))


def _has_hyperparameters(logger: Logger) -> bool:
    """Whether TensorBoard has those of an earlier start: it would show their placeholder metric twice."""
    return isinstance(logger, TensorBoardLogger) and Path(logger.log_dir, logger.NAME_HPARAMS_FILE).is_file()


def _showing(trainer: lightning.Trainer) -> list[WandbLogger | TensorBoardLogger]:
    """The loggers that show pictures; in other processes than the first there are none."""
    found = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]
    return found if trainer.is_global_zero else []


def _show_at(logger: WandbLogger | TensorBoardLogger, folder: RunFolder, row: dict[str, Any] | None, step: int) -> None:
    sheets = [] if row is None else sheets_of(folder, row)
    pictures = {name: Image.open(io.BytesIO(png)) for name, png in figures(folder).items()}
    if isinstance(logger, WandbLogger):
        _to_wandb(logger.experiment, sheets, pictures, step)
        return
    for sheet in sheets:
        to_tensorboard(logger.experiment, sheet, step)
    for name, picture in pictures.items():
        logger.experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")


def _go_on(logger: WandbLogger, folder: RunFolder, step: int) -> None:
    go_on(logger.experiment, folder, step)


def _attach_report(logger: WandbLogger, folder: RunFolder) -> None:
    attach_report(logger.experiment, folder)


def _to_wandb(run: Any, sheets: list[Sheet], pictures: Mapping[str, Image.Image], step: int) -> None:
    """As one row of its history."""
    import wandb

    row = {sheet.name: as_wandb_table(sheet) for sheet in sheets}
    row |= {name: wandb.Image(picture) for name, picture in pictures.items()}
    if row:
        run.log({**row, "trainer/global_step": step})
