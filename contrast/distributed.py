"""Gather rows of all processes, so that N processes compute the same as a single process.

Every function is the identity if `torch.distributed` is not initialised. Ranks may hold different numbers of rows.
Gathered rows are in the order of the ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["everyone", "gather", "gather_detached", "global_mean", "own_place", "rank", "world_size"]


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if _together() else 0


def gather(rows: Tensor) -> Tensor:
    """All-gather of rows along axis 0 with gradient: backward sums the gradients of all ranks for each row.

    If each rank computes the loss of its own queries, and the gradients are averaged over ranks (as
    DistributedDataParallel does), the result is exactly the gradient of a single process. No factor of the world size
    is needed.
    """
    if not _together():
        return rows
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def gather_detached(rows: Tensor) -> Tensor:
    """All-gather of rows along axis 0 without gradient, for memory banks and statistics."""
    return torch.cat(_all_rows(rows.detach())) if _together() else rows.detach()


def everyone(value: Any) -> list[Any]:
    """All-gather of small Python values, one per rank, in the order of the ranks; they are pickled on the way."""
    if not _together():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def own_place(rows: Tensor) -> slice:
    """Position of this rank's rows among the rows of all ranks.

    Every rank must call it, because the ranks exchange their row counts.
    """
    counts = _row_counts(rows) if _together() else [len(rows)]
    start = sum(counts[: rank()])
    return slice(start, start + len(rows))


def global_mean(values: Tensor) -> Tensor:
    """Mean over the values of all ranks, scaled so that the average over ranks is that mean.

    ``world · Σ_local v / n_global``; with equal counts, a plain mean of the local values

    Gradients averaged over ranks are then the gradients of a single process.
    """
    if not _together():
        return values.mean()
    count = torch.tensor(float(values.numel()), device=values.device)
    dist.all_reduce(count)
    return values.sum() * (world_size() / count.to(values.dtype))


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _row_counts(rows: Tensor) -> list[int]:
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    return [int(each) for each in counts]


def _all_rows(rows: Tensor) -> list[Tensor]:
    """The rows of each rank, one tensor per rank; all-gather pads shorter tensors to the longest."""
    counts = _row_counts(rows)
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = _all_rows(rows)
        ctx.start = sum(len(part) for part in parts[: rank()])
        ctx.count = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.count]
