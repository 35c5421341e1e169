"""Softmax denominators on a CUDA device, in fused kernels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrast.losses._kernels import pull_of_queries, pull_within, sum_of_queries
from contrast.pairs import Pairs

__all__ = ["fused_log_partition"]

_BLOCK = 64
"""Rows and columns of a block. Not tuned: no card has run it yet."""
_WIDEST = 256
"""Beyond it, a block of rows does not fit beside its products."""


def fused_log_partition(
    query: Float[Tensor, "b d"], negatives: Float[Tensor, "k d"], inverse: Float[Tensor, ""], pairs: Pairs, within: bool
) -> Float[Tensor, " b"]:
    """``log Σ_j exp(q·n_j / τ)`` in float32 over the negatives that a query meets; -inf where it meets none.

    Maxima are kept along the way, so that no exponential overflows, and nothing waits for the device. Forward is one
    product, with the query's gradient two; backward is two for the rows of a batch among themselves and two for other
    negatives that ask for a gradient, none for a queue.

    Args:
        query, negatives: rows of bfloat16, float16 or float32, `fits` says of which width.
        inverse: 1/τ, float32.
        pairs: which samples they are, and what is excluded.
        within: whether query and negatives are the same rows of the same samples, and nothing is excluded.
    """
    result: Tensor = _Fused.apply(query, negatives, inverse, pairs, within, torch.is_grad_enabled())
    return result


def fits(query: Tensor) -> bool:
    """Whether the kernels take such rows."""
    return query.dtype in (torch.bfloat16, torch.float16, torch.float32) and query.shape[-1] <= _WIDEST


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, negatives: Tensor, inverse: Tensor, pairs: Pairs, within: bool, graded: bool
    ) -> Tensor:
        query, negatives = query.contiguous(), negatives.contiguous()
        total = query.new_empty(len(query), dtype=torch.float32)
        wanted = graded and not within and (ctx.needs_input_grad[0] or ctx.needs_input_grad[2])
        pull = torch.zeros(query.shape if wanted else (0,), dtype=torch.float32, device=query.device)
        of, excluded = _samples(pairs, within)
        sum_of_queries[(_blocks(query),)](
            query, negatives, inverse, pairs.index, of, excluded, total, pull, len(query), len(negatives),
            query.shape[1], excluded.shape[-1], PARTS=of.shape[1], PULL=wanted, **_sizes(query),
        )  # fmt: skip
        ctx.pairs, ctx.within, ctx.graded = pairs, within, ctx.needs_input_grad[1]
        ctx.save_for_backward(query, negatives, inverse, total, pull)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, negatives, inverse, total, pull = ctx.saved_tensors
        gradient, of_negatives = gradient.contiguous().float(), None
        of, excluded = _samples(ctx.pairs, ctx.within)
        if ctx.within:
            both = torch.empty_like(query, dtype=torch.float32)
            pull_within[(_blocks(query),)](
                query, inverse, ctx.pairs.index, excluded, total, gradient, both, len(query), query.shape[1],
                **_sizes(query),
            )  # fmt: skip
            of_inverse = (query * both).sum() / 2
            return (both * inverse).to(query.dtype), None, of_inverse, None, None, None
        if ctx.graded:
            of_negatives = torch.empty_like(negatives, dtype=torch.float32)
            pull_of_queries[(_blocks(negatives),)](
                query, negatives, inverse, ctx.pairs.index, of, excluded, total, gradient, of_negatives, len(query),
                len(negatives), query.shape[1], excluded.shape[-1], PARTS=of.shape[1], **_sizes(query),
            )  # fmt: skip
            of_negatives = (of_negatives * inverse).to(negatives.dtype)
        by_row = pull * gradient[:, None]
        return (by_row * inverse).to(query.dtype), of_negatives, (query * by_row).sum(), None, None, None


def _samples(pairs: Pairs, within: bool) -> tuple[Tensor, Tensor]:
    """Of which samples each negative is made, (k, 1) or (k, 2), and the excluded columns, (b, m)."""
    of = pairs.index if within else pairs.negative_index
    excluded = pairs.index.new_empty((len(pairs.index), 0)) if pairs.excluded is None else pairs.excluded.contiguous()
    return (of[:, None] if of.ndim == 1 else of).contiguous(), excluded


def _blocks(rows: Tensor) -> int:
    return max(1, -(-len(rows) // _BLOCK))


def _sizes(rows: Tensor) -> dict[str, int]:
    width = max(16, 1 << (rows.shape[1] - 1).bit_length())  # what a block's product asks for
    return {"ROWS": _BLOCK, "COLUMNS": _BLOCK, "WIDTH": width}
