"""Finished histograms to the loggers that can hold them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from contrast.callbacks.guarded_loggers import attempt
from contrast.callbacks.resumed_loggers import sent

__all__ = ["log_histogram"]


def log_histogram(
    loggers: Sequence[Logger], name: str, counts: Sequence[int], step: int, low: float = -1.0, high: float = 1.0
) -> None:
    """A histogram over equal bins of [low, high] to W&B and TensorBoard; other loggers hold none.

    At W&B it shares the row of the scalars that are logged next, which are to be of the same step.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    for logger in loggers:
        if name in sent(logger, step):
            continue
        if isinstance(logger, WandbLogger):
            attempt(logger, "histograms", partial(_to_wandb, logger, name, np.asarray(counts), edges, step))
        elif isinstance(logger, TensorBoardLogger):
            attempt(logger, "histograms", partial(_to_tensorboard, logger, name, np.asarray(counts), edges, step))


def _to_wandb(logger: WandbLogger, name: str, counts: np.ndarray, edges: np.ndarray, step: int) -> None:
    import wandb  # only where a run asked for it: importing it takes a second

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
