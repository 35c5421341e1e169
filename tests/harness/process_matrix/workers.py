"""Processes that train the cases side by side, and what they find."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from tests.harness.process_matrix.breaks import BREAKS
from tests.harness.process_matrix.training import train

__all__ = ["of_processes"]

Found = dict[str, dict[str, Any]]


def of_processes(count: int, names: Sequence[str], precision: torch.dtype, broken: str | None = None) -> list[Found]:
    """What each of so many processes finds of each case; of one process, it alone.

    Args:
        count: processes.
        names: of cases.
        precision: float64 or float32.
        broken: one of `BREAKS`, done to every process.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (count, list(names), precision, broken, folder)
        # Forked, which takes no time; nothing is computed before, for threads do not survive it.
        multiprocessing.start_processes(_work, given, nprocs=count, start_method="fork")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _work(rank: int, count: int, names: list[str], precision: torch.dtype, broken: str | None, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # which parameters a method leaves unused is no matter here
    warnings.filterwarnings("ignore", message=".*find_unused_parameters.*")
    if broken is not None:
        BREAKS[broken]()
    if count > 1:
        meet = f"file://{folder}/meet"
        dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=count, timeout=timedelta(minutes=2))
    torch.save({name: train(name, precision) for name in names}, Path(folder) / f"{rank}.pt")
    if count > 1:
        dist.barrier()
        dist.destroy_process_group()
