"""Mirror a run folder's records to Weights & Biases or TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from contrast.callbacks.logger_calls import attempt, flush, sent
from contrast.callbacks.mirrored_figures import figures
from contrast.callbacks.wandb_run import attach_report, go_on
from contrast.records import read_rows
from contrast.run_folder import RunFolder

__all__ = ["Mirror", "Sheet", "as_wandb_table", "drawn", "log_histogram", "sheets_of", "to_tensorboard"]


def log_histogram(
    loggers: Sequence[Logger], name: str, counts: Sequence[float], step: int, edges: Sequence[float]
) -> None:
    """Log a histogram to W&B and TensorBoard; other loggers do not support histograms.

    In W&B the histogram is part of the same row as the scalars that are logged next, which must have the same step.

    Args:
        loggers: loggers of the run.
        name: name of the histogram.
        counts: count of each of the b bins.
        step: training step.
        edges: ends of the bins, b + 1 increasing numbers.
    """
    ends = np.asarray(edges, dtype=np.float64)
    for logger in loggers:
        if name in sent(logger, step):
            continue
        if isinstance(logger, WandbLogger):
            attempt(logger, "histograms", partial(_histograms_to_wandb, logger, name, np.asarray(counts), ends, step))
        elif isinstance(logger, TensorBoardLogger):
            attempt(logger, "histograms", partial(_to_tensorboard, logger, name, np.asarray(counts), ends, step))


def _histograms_to_wandb(logger: WandbLogger, name: str, counts: np.ndarray, edges: np.ndarray, step: int) -> None:
    import wandb  # imported late: takes a second

    histogram = wandb.Histogram(np_histogram=(counts, edges))
    logger.experiment.log({name: histogram, "trainer/global_step": step}, commit=False)


def _to_tensorboard(logger: TensorBoardLogger, name: str, counts: np.ndarray, edges: np.ndarray, step: int) -> None:
    middle = (edges[:-1] + edges[1:]) / 2
    logger.experiment.add_histogram_raw(
        name,
        min=float(edges[0]),
        max=float(edges[-1]),
        num=int(counts.sum()),
        sum=float(counts @ middle),
        sum_squares=float(counts @ middle**2),
        bucket_limits=edges[1:].tolist(),
        bucket_counts=counts.tolist(),
        global_step=step,
    )


_NUMBERS = ("index", "label", "class", "path", "loss", "positive", "weight", "flag")
_NEGATIVES = (
    *("query", "query label", "query class", "query path", "positive"),
    *("negative", "negative label", "negative class", "negative path", "score", "share", "kind"),
)
_PAIRS_ACROSS = 4
_LEAST, _GAP, _APART = 48, 2, 10
"""Pixels: smallest longer side of a picture, gap between pictures, and extra gap between groups of pictures."""


@dataclass(frozen=True)
class Sheet:
    """Table whose cells may be pictures.

    Attributes:
        name: name under which the table is logged.
        columns: names of the columns.
        rows: cells of each row; a picture is given by its path.
        lines: layout of the pictures: lines from top to bottom, each with groups of pictures from left to right.
    """

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    lines: list[list[list[Path | None]]]


def sheets_of(folder: RunFolder, row: dict[str, Any]) -> list[Sheet]:
    """Tables for a row of ``gallery.jsonl``: notable pairs, and queries with their hardest negatives.

    Empty tables are left out. The pairs are the flagged bad pairs, or the pairs of highest loss where none is flagged.

    Args:
        folder: the run folder.
        row: row of ``gallery.jsonl``.
    """
    flagged = bool(row.get("flagged"))
    pairs = row["flagged"] if flagged else row.get("highest", [])
    made = [_pairs("pairs/bad" if flagged else "pairs/highest_loss", pairs, folder), _queries(row["queries"], folder)]
    return [sheet for sheet in made if sheet.rows]


def _pairs(name: str, pairs: Sequence[dict[str, Any]], folder: RunFolder) -> Sheet:
    views = [[_path(folder, picture) for picture in pair["pictures"]] for pair in pairs]
    count = max(map(len, views), default=0)
    rows = [
        (*(pair.get(number) for number in _NUMBERS), *seen, *[None] * (count - len(seen)))
        for pair, seen in zip(pairs, views, strict=True)
    ]
    columns = (*_NUMBERS, *(f"view {number}" for number in range(1, count + 1)))
    lines = [views[start : start + _PAIRS_ACROSS] for start in range(0, len(views), _PAIRS_ACROSS)]
    return Sheet(name, columns, rows, lines)


def _queries(queries: Sequence[dict[str, Any]], folder: RunFolder) -> Sheet:
    rows: list[tuple[Any, ...]] = []
    lines = []
    for query in queries:
        left, negatives = _path(folder, query["picture"]), query["negatives"]
        right = [_path(folder, negative["picture"]) for negative in negatives]
        lines.append([[left], right])
        for negative, picture in zip(negatives, right, strict=True):
            of_query, of_negative = ((each["label"], each.get("class"), each.get("path")) for each in (query, negative))
            numbers = (negative["score"], negative["share"], negative["kind"])
            rows.append((left, *of_query, query["positive"], picture, *of_negative, *numbers))
    return Sheet("pairs/hardest_negatives", _NEGATIVES, rows, lines)


def _path(folder: RunFolder, picture: Any) -> Path | None:
    """Path of the picture in the run's own folder, even if the row names another folder.

    No file outside the run folder is ever uploaded.
    """
    if not isinstance(picture, str):
        return None
    path = folder.pictures / Path(picture).name
    return path if path.is_file() and not path.is_symlink() else None


def as_wandb_table(sheet: Sheet) -> Any:
    """Convert to a W&B table, pictures included."""
    import wandb

    rows = [[wandb.Image(str(cell)) if isinstance(cell, Path) else cell for cell in row] for row in sheet.rows]
    return wandb.Table(columns=list(sheet.columns), data=rows)


def to_tensorboard(writer: Any, sheet: Sheet, step: int) -> None:
    """Log a table to TensorBoard: all pictures as one image, and the numbers as a text table in the same order.

    Args:
        writer: TensorBoard's summary writer.
        sheet: table to log.
        step: training step.
    """
    writer.add_image(sheet.name, np.asarray(drawn(sheet)), step, dataformats="HWC")
    shown = [
        place for place in range(len(sheet.columns)) if not any(isinstance(row[place], Path) for row in sheet.rows)
    ]
    lines = [[sheet.columns[place] for place in shown], ["---"] * len(shown)]
    lines += [["" if row[place] is None else str(row[place]) for place in shown] for row in sheet.rows]
    writer.add_text(sheet.name, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)


def drawn(sheet: Sheet) -> Image.Image:
    """Draw the pictures in their layout as one image.

    Small pictures are enlarged without blur. The place of a missing picture stays white.
    """
    lines = [[[_opened(path) for path in group] for group in line] for line in sheet.lines]
    there = [picture for line in lines for group in line for picture in group if picture is not None]
    width = max((picture.width for picture in there), default=_LEAST) + _GAP
    height = max((picture.height for picture in there), default=_LEAST) + _GAP
    across = max(sum(map(len, line)) * width + (len(line) - 1) * _APART for line in lines)
    canvas = Image.new("RGB", (across, height * len(lines)), "white")
    for down, line in enumerate(lines):
        left = 0
        for group in line:
            for picture in group:
                if picture is not None:
                    canvas.paste(picture, (left, down * height))
                left += width
            left += _APART
    return canvas


def _opened(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    with Image.open(path) as file:
        picture = file.convert("RGB")
    times = -(-_LEAST // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


_FIGURES = {"scores/over_training", "hardness/by_rank"}


class Mirror(lightning.Callback):
    """Log figures and pictures to W&B and TensorBoard, and the configuration to every logger.

    Each row of ``gallery.jsonl`` is logged with its pairs and two figures of the run so far. At the end of a run, also
    of a run that was stopped or failed, the figures are logged again, and W&B receives the report page as an artifact.
    If a picture cannot be drawn or sent, the run prints a warning and continues. This callback must come after the
    callbacks that write the files it reads.

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
        """Log the figures and, if a row of the gallery is given, its pairs."""
        self._drawn = trainer.global_step
        for logger in _showing(trainer):
            if not sent(logger, trainer.global_step) & _FIGURES:
                attempt(logger, "pictures", partial(_show_at, logger, self.folder, row, trainer.global_step))


def _has_hyperparameters(logger: Logger) -> bool:
    """Whether TensorBoard has the hyperparameters of an earlier start.

    If they were logged again, their placeholder metric would appear twice.
    """
    return isinstance(logger, TensorBoardLogger) and Path(logger.log_dir, logger.NAME_HPARAMS_FILE).is_file()


def _showing(trainer: lightning.Trainer) -> list[WandbLogger | TensorBoardLogger]:
    """Loggers that can show pictures; empty in all processes except the first."""
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
    """Log to W&B as one row of its history."""
    import wandb

    row = {sheet.name: as_wandb_table(sheet) for sheet in sheets}
    row |= {name: wandb.Image(picture) for name, picture in pictures.items()}
    if row:
        run.log({**row, "trainer/global_step": step})
