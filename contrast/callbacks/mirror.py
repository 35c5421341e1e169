"""What W&B and TensorBoard show of a run beside its scalars and histograms: configuration, pictures and the report."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from tqdm.auto import tqdm

from contrast.callbacks.mirrored_figures import figures
from contrast.callbacks.mirrored_gallery import Sheet, as_wandb_table, sheets_of, to_tensorboard
from contrast.callbacks.wandb_run import attach_report, go_on
from contrast.records import read_rows
from contrast.run_folder import RunFolder

__all__ = ["Mirror"]


class Mirror(lightning.Callback):
    """The run folder's pictures to W&B and TensorBoard, and the configuration to every logger.

    With every row of ``gallery.jsonl`` its pairs and two figures of the run so far; at the end, also of a run that was
    stopped or failed, the figures again, and for W&B the report page as an artifact. What cannot be drawn or sent costs
    a line of warning, never the run. It comes after the callbacks that write what it reads.

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
            logger.log_hyperparams(self.config)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = True
        for logger in _showing(trainer):
            if isinstance(logger, WandbLogger):
                go_on(logger.experiment, self.folder, trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not _showing(trainer):
            return
        rows = read_rows(self.folder.gallery)
        if rows and rows[-1].get("step") == trainer.global_step:
            _unless_it_fails("pictures", lambda: self._show(trainer, sheets_of(self.folder, rows[-1])))

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
            _unless_it_fails("figures", lambda: self._show(trainer, []))
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                _unless_it_fails("report", partial(attach_report, logger.experiment, self.folder))

    def _show(self, trainer: lightning.Trainer, sheets: list[Sheet]) -> None:
        step = self._drawn = trainer.global_step
        pictures = {name: Image.open(io.BytesIO(png)) for name, png in figures(self.folder).items()}
        for logger in _showing(trainer):
            if isinstance(logger, WandbLogger):
                _to_wandb(logger.experiment, sheets, pictures, step)
            elif isinstance(logger, TensorBoardLogger):
                for sheet in sheets:
                    to_tensorboard(logger.experiment, sheet, step)
                for name, picture in pictures.items():
                    image = np.asarray(picture.convert("RGB"))
                    logger.experiment.add_image(name, image, step, dataformats="HWC")


def _showing(trainer: lightning.Trainer) -> list[WandbLogger | TensorBoardLogger]:
    """The loggers that show pictures; in other processes than the first there are none."""
    found = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]
    return found if trainer.is_global_zero else []


def _to_wandb(run: Any, sheets: list[Sheet], pictures: Mapping[str, Image.Image], step: int) -> None:
    """As one row of its history."""
    import wandb

    row = {sheet.name: as_wandb_table(sheet) for sheet in sheets}
    row |= {name: wandb.Image(picture) for name, picture in pictures.items()}
    if row:
        run.log({**row, "trainer/global_step": step})


def _unless_it_fails(what: str, do: Callable[[], None]) -> None:
    try:
        do()
    except Exception as error:  # of whatever kind a logger's are: a run outlives its mirror
        said = " ".join(str(error).split())[:200]
        tqdm.write(f"warning {what} of this run did not reach its logger: {type(error).__name__}: {said}", sys.stderr)
