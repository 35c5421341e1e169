"""Softmax denominator: log-sum-exp of each query's negatives, without materialising the score matrix."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrast.losses.base import at_least_float32
from contrast.losses.exclusion import LeftOut

__all__ = ["log_partition"]

HAS_TRITON = find_spec("triton") is not None
"""Without Triton, as on Windows and macOS, a CUDA device runs the same blocks as the CPU."""

_ROWS, _COLUMNS = 512, 1024
"""Size of a block of queries and other rows."""
_SQUARE = 512
"""Size of a block of queries among themselves."""
_KEPT = 1 << 20
"""Largest matrix, in entries, whose exponentials are kept for backward; a larger matrix computes them again."""
_SAFE = {torch.float32: 60.0, torch.float64: 600.0}
"""Largest logit for which its exponential, and a sum of billions of such exponentials, is a normal number."""


def log_partition(
    query: Float[Tensor, "*h b d"], negatives: Float[Tensor, "*h k d"], inverse: Float[Tensor, ""], out: LeftOut
) -> Float[Tensor, "*h b"]:
    """Log-sum-exp over each query's negatives, ``log Σ_j exp(q·n_j / τ)``, computed block by block.

    Scores are computed and dropped block by block, and computed again in backward. Memory is O(b + k). The gradients of
    query, negatives and τ are exact. If query and negatives are the same tensor (a batch on one process), each block
    above the diagonal also serves for its mirror image. If the negatives need no gradient (a queue), the query's
    gradient is already computed in forward.

    On a CUDA device, fused kernels do the same (`contrast.losses._partition_cuda`) and read half-precision rows
    directly. Elsewhere, half-precision rows are converted to float32 first.

    Args:
        query: rows, (*h, b, d); unit length is not required.
        negatives: rows, (*h, k, d); unit length is not required.
        inverse: 1/τ, at least float32.
        out: the excluded entries.

    Returns:
        The logarithm of the sum, (*h, b); -inf for a query without negatives.
    """
    if query.ndim > 2:
        one = query is negatives
        heads = ((q, q if one else n) for q, n in zip(query, negatives, strict=True))
        return torch.stack([log_partition(*rows, inverse, out) for rows in heads])
    within = query is negatives and out.symmetric
    if query.device.type == "cuda" and HAS_TRITON and query.dtype != torch.float64:
        from contrast.losses._partition_cuda import fits, fused_log_partition  # loads Triton: GPUs only

        if fits(query):
            return fused_log_partition(query, negatives, inverse, out.pairs, within)
    rows = at_least_float32(query)
    return _by_blocks(rows, rows if query is negatives else at_least_float32(negatives), inverse, out, within)


def _by_blocks(query: Tensor, negatives: Tensor, inverse: Tensor, out: LeftOut, within: bool) -> Tensor:
    # On a device we always subtract row maxima, to avoid a synchronisation.
    safe = query.device.type == "cpu" and _largest_logit(query, negatives, inverse) <= _SAFE[query.dtype]
    result: Tensor
    if within and safe:
        result = _Within.apply(query, inverse, out)
    else:
        result = _Between.apply(query, negatives, inverse, out, safe, torch.is_grad_enabled())
    return result


class _Block(NamedTuple):
    """Exponentials of one block of logits; 0 where a query excludes a negative."""

    rows: slice
    columns: slice
    values: Tensor


class _Within(torch.autograd.Function):
    """Log-sum-exp of rows among themselves.

    exp(logit) is symmetric, so each block above the diagonal also serves for its mirror image.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, inverse: Tensor, out: LeftOut) -> Tensor:
        keep = len(rows) ** 2 <= _KEPT
        side = len(rows) if keep else _SQUARE
        ctx.blocks = lambda: _exponentials(rows * inverse, rows, out, (side, side), half=True)
        ctx.kept = []
        total = rows.new_zeros(len(rows))
        for block in ctx.blocks():
            total[block.rows].add_(block.values.sum(dim=1))
            if block.rows != block.columns:
                total[block.columns].add_(block.values.sum(dim=0))
            if keep:
                ctx.kept.append(block)
        ctx.save_for_backward(rows, inverse, total)
        return total.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, inverse, total = ctx.saved_tensors
        share = _over(gradient, total)
        by_row = torch.zeros_like(rows)
        for block in ctx.kept or ctx.blocks():
            # x_i is both a query and a negative:
            # d/dx_i Σ_r g_r log Σ_j e_rj = Σ_j e_ij (g_i / Z_i + g_j / Z_j) x_j / τ.
            weight = block.values.mul_(share[block.rows, None] + share[block.columns])
            by_row[block.rows].addmm_(weight, rows[block.columns])
            if block.rows != block.columns:
                by_row[block.columns].addmm_(weight.T, rows[block.rows])
        of_inverse = (rows * by_row).sum() / 2 if ctx.needs_input_grad[1] else None  # 1/τ may be 0: HCL at β = 0
        return by_row.mul_(inverse), of_inverse, None


class _Between(torch.autograd.Function):
    """Log-sum-exp of queries over other rows."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, negatives: Tensor, inverse: Tensor, out: LeftOut, safe: bool, graded: bool
    ) -> Tensor:
        scaled = query * inverse
        shift = None if safe else _row_maxima(scaled, negatives, out)
        by_row = graded and any(ctx.needs_input_grad[::2][:2])
        ctx.blocks = lambda: _exponentials(scaled, negatives, out, (_ROWS, _COLUMNS), shift)
        ctx.whole = not ctx.needs_input_grad[1]
        total, weighted = query.new_zeros(len(query)), torch.zeros_like(query) if by_row and ctx.whole else None
        for block in ctx.blocks():
            total[block.rows].add_(block.values.sum(dim=1))
            if weighted is not None:
                weighted[block.rows].addmm_(block.values, negatives[block.columns])
        ctx.save_for_backward(query, negatives, inverse, total, weighted)
        return total.log() if shift is None else total.log().add_(shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, negatives, inverse, total, by_row = ctx.saved_tensors
        share = _over(gradient, total)
        of_negatives = None
        if not ctx.whole:
            by_row, of_negatives = torch.zeros_like(query), torch.zeros_like(negatives)
            pulling = query * (share * inverse)[:, None]
            for block in ctx.blocks():
                by_row[block.rows].addmm_(block.values, negatives[block.columns])
                of_negatives[block.columns].addmm_(block.values.T, pulling[block.rows])
        by_row = by_row * share[:, None]
        of_inverse = (query * by_row).sum() if ctx.needs_input_grad[2] else None
        return by_row.mul_(inverse), of_negatives, of_inverse, None, None, None


def _exponentials(
    scaled: Tensor,
    negatives: Tensor,
    out: LeftOut,
    shape: tuple[int, int],
    shift: Tensor | None = None,
    half: bool = False,
) -> Iterator[_Block]:
    """Iterate over blocks of exp(logit - shift), all in one buffer; with `half`, over the upper triangle only.

    The upper triangle holds the blocks on and above the diagonal.
    """
    hidden = out.blocks(*shape)
    for rows, columns, values in _logits(scaled, negatives, shape, half):
        if shift is not None:
            values.sub_(shift[rows, None])
        hidden.hide(values.exp_(), rows.start, columns.start, 0.0)
        yield _Block(rows, columns, values)


def _logits(scaled: Tensor, negatives: Tensor, shape: tuple[int, int], half: bool = False) -> Iterator[_Block]:
    buffer = scaled.new_empty(min(shape[0], len(scaled)) * min(shape[1], len(negatives)))
    for top in range(0, len(scaled), shape[0]):
        rows = slice(top, min(top + shape[0], len(scaled)))
        for left in range(top if half else 0, len(negatives), shape[1]):
            columns = slice(left, min(left + shape[1], len(negatives)))
            size = (rows.stop - top, columns.stop - left)
            values = buffer[: size[0] * size[1]].view(size)
            yield _Block(rows, columns, torch.mm(scaled[rows], negatives[columns].T, out=values))


def _row_maxima(scaled: Tensor, negatives: Tensor, out: LeftOut) -> Tensor:
    """Largest logit of each query, to subtract before the exponential; 0 for a query without negatives."""
    shape = (_ROWS, _COLUMNS)
    hidden = out.blocks(*shape)
    largest = scaled.new_full((len(scaled),), -torch.inf)
    for rows, columns, values in _logits(scaled, negatives, shape):
        hidden.hide(values, rows.start, columns.start, -torch.inf)
        largest[rows] = torch.maximum(largest[rows], values.amax(dim=1))
    return largest.masked_fill_(largest == -torch.inf, 0.0)


def _largest_logit(query: Tensor, negatives: Tensor, inverse: Tensor) -> float:
    """Upper bound of the logits, from the longest rows; 0 if there are no rows."""
    longest = [
        torch.linalg.vector_norm(rows.detach(), dim=1).amax().item() if len(rows) else 0.0
        for rows in ((query,) if query is negatives else (query, negatives))
    ]
    return longest[0] * longest[-1] * inverse.item()


def _over(gradient: Tensor, total: Tensor) -> Tensor:
    """Gradient of the logarithm, ``gradient / total``; 0 for a query without negatives."""
    return (gradient / total).masked_fill_(total == 0, 0.0)
