"""Softmax denominators on a CUDA device, by fused Triton kernels."""

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
"""Rows and columns of a block. The value is not tuned: the kernels have not run on a GPU yet."""
_WIDEST = 256
"""Largest width of the rows. Wider blocks of rows do not fit into memory together with their products."""


def fused_log_partition(
    query: Float[Tensor, "b d"], negatives: Float[Tensor, "k d"], inverse: Float[Tensor, ""], pairs: Pairs, within: bool
) -> Float[Tensor, " b"]:
    """Log-sum-exp over each query's negatives, ``log Σ_j exp(q·n_j / τ)`` in float32, by fused CUDA kernels.

    Running maxima prevent overflow of the exponentials. Nothing synchronises with the device. Forward takes one matrix
    product, or two if the query needs a gradient. Backward takes two products for a batch with itself, two for other
    negatives that need a gradient, and none for a queue.

    Args:
        query: rows of bfloat16, float16 or float32, (b, d); see `fits` for the largest width.
        negatives: rows of the same dtype, (k, d).
        inverse: 1/τ, float32.
        pairs: gives the sample of each row, and the excluded columns.
        within: whether query and negatives are the same rows of the same samples, and `excluded` is None.

    Returns:
        The logarithm of the sum, (b,); -inf for a query without negatives.
    """
    result: Tensor = _Fused.apply(query, negatives, inverse, pairs, within, torch.is_grad_enabled())
    return result


def fits(query: Tensor) -> bool:
    """Whether the kernels support the dtype and the width of these rows."""
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
    """The samples of each negative, (k, 1) or (k, 2), and the excluded columns of each query, (b, m)."""
    of = pairs.index if within else pairs.negative_index
    excluded = pairs.index.new_empty((len(pairs.index), 0)) if pairs.excluded is None else pairs.excluded.contiguous()
    return (of[:, None] if of.ndim == 1 else of).contiguous(), excluded


def _blocks(rows: Tensor) -> int:
    return max(1, -(-len(rows) // _BLOCK))


def _sizes(rows: Tensor) -> dict[str, int]:
    width = max(16, 1 << (rows.shape[1] - 1).bit_length())  # a block product needs a power of 2, at least 16
    return {"ROWS": _BLOCK, "COLUMNS": _BLOCK, "WIDTH": width}
