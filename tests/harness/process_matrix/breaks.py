"""What is broken on purpose, to see the matrix fail: each takes one thing away that makes processes agree."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["BREAKS", "WITNESSES"]


def _everywhere(name: str, instead: Callable[..., Any], *modules: str) -> None:
    for module in modules:
        setattr(importlib.import_module(f"contrast.{module}"), name, instead)


_GATHERS = ("pairs", "losses.base")


def _no_gather() -> None:
    """Each process meets its own rows alone."""
    _everywhere("gather", lambda rows: rows, *_GATHERS)
    _everywhere("gather_detached", lambda rows: rows.detach(), "pairs")


def _gather_without_gradient() -> None:
    from contrast.distributed import gather_detached

    def gather(rows: Tensor) -> Tensor:
        place = _own_place(rows)
        everyone = gather_detached(rows).clone()
        return torch.cat([everyone[: place.start], rows, everyone[place.stop :]])

    _everywhere("gather", gather, *_GATHERS)


def _own_place(rows: Tensor) -> slice:
    from contrast.distributed import own_place

    return own_place(rows)


def _gradient_scale() -> None:
    """The gradient of gathered rows is averaged where it is to be summed."""
    from contrast import distributed

    backward = distributed._Gather.backward
    distributed._Gather.backward = staticmethod(  # type: ignore[method-assign]
        lambda ctx, *gradients: backward(ctx, *gradients) / dist.get_world_size()
    )


def _local_mean() -> None:
    """Each process takes the mean over its own rows, so that rows of a smaller part count more."""
    _everywhere("global_mean", lambda values: values.mean(), "losses.base")


def _index_offset() -> None:
    """Processes number the gathered samples from 0 again, as if all had the same ones."""
    from contrast.distributed import gather_detached

    def shifted(rows: Tensor) -> Tensor:
        everyone = gather_detached(rows)
        return everyone if everyone.is_floating_point() else (everyone + 1) % 40

    _everywhere("gather_detached", shifted, "pairs")


def _local_bank() -> None:
    """A bank stores its own process's keys."""
    own = "banks.key_queue", "banks.faiss_bank"
    _everywhere("gather_detached", lambda rows: rows.detach(), *own)


def _local_statistics() -> None:
    """DCLW's mean and DBPM's statistics are of one process's rows."""
    _everywhere("gather_detached", lambda rows: rows.detach(), "losses.objectives", "losses.bad_pair_mining")


def _local_records() -> None:
    """What is recorded is of one process."""
    _everywhere("added_up", lambda sums: sums.cpu(), "observation.sums", "callbacks.pair_history")


BREAKS: dict[str, Callable[[], None]] = {
    "no gather": _no_gather,
    "a gather without gradient": _gather_without_gradient,
    "the gradient's scale": _gradient_scale,
    "the global mean": _local_mean,
    "an offset of the index": _index_offset,
    "a bank of local keys": _local_bank,
    "statistics of local losses": _local_statistics,
    "records of one process": _local_records,
}
"""By what is taken away."""

WITNESSES = {
    "no gather": "SimCLR, DCLW",
    "a gather without gradient": "VICReg",
    "the gradient's scale": "SimCLR, DCLW",
    "the global mean": "MoCo, both directions",
    "an offset of the index": "SimCLR, DCLW",
    "a bank of local keys": "MoCo, both directions",
    "statistics of local losses": "SimCLR, DBPM",
    "records of one process": "VICReg",
}
"""A row that fails by each, for those who have no time for all."""
