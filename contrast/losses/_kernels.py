"""Triton kernels of the softmax denominator.

Arguments follow Triton's order: pointers first, then sizes, then compile-time constants in capitals. Products of
half-precision rows are accumulated in float32. Products of float32 rows are computed in float32, never in TF32.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["pull_of_queries", "pull_within", "sum_of_queries"]

# Triton compiles the kernels from this source, so annotations and capitals are Triton's own; mypy does not know
# Triton's functions.
# ruff: noqa: N803


@triton.jit
def _rows(pointer, rows, count, width, WIDTH: tl.constexpr):
    """Load a block of rows of a contiguous matrix; 0 beyond the matrix."""
    columns = tl.arange(0, WIDTH)
    inside = (rows[:, None] < count) & (columns[None, :] < width)
    return tl.load(pointer + rows[:, None].to(tl.int64) * width + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _logits(query, other, rows, columns, inverse, index, of, excluded, queries, negatives, most, PARTS: tl.constexpr):
    """Logits of a block; -inf where a query excludes a negative, and beyond the matrix."""
    logit = tl.dot(query, tl.trans(other), input_precision="ieee") * inverse
    own = tl.load(index + rows, mask=rows < queries, other=-1)
    out = (columns[None, :] >= negatives) | (rows[:, None] >= queries)
    for part in tl.static_range(PARTS):
        sample = tl.load(of + columns * PARTS + part, mask=columns < negatives, other=-1)
        out = out | ((own[:, None] == sample[None, :]) & (sample[None, :] >= 0))
    for place in range(most):
        named = tl.load(excluded + rows * most + place, mask=rows < queries, other=-1)
        out = out | (named[:, None] == columns[None, :])
    return tl.where(out, float("-inf"), logit)


@triton.jit
def sum_of_queries(
    query_at, negatives_at, inverse_at, index, of, excluded, sum_at, pull_at, queries, negatives, width, most,
    PARTS: tl.constexpr, PULL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Log-sum-exp of each query, ``log Σ_j exp l_ij``, and optionally its gradient.

    With PULL, it also stores ``Σ_j softmax(l)_ij n_j``: the gradient with respect to the query, without the factor 1/τ.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    query = _rows(query_at, rows, queries, width, WIDTH)
    inverse = tl.load(inverse_at)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    pull = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, negatives, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        other = _rows(negatives_at, columns, negatives, width, WIDTH)
        logit = _logits(query, other, rows, columns, inverse, index, of, excluded, queries, negatives, most, PARTS)
        new = tl.maximum(largest, tl.max(logit, 1))
        shift = tl.where(new == float("-inf"), 0.0, new)  # 0 for a query that has had no negative so far
        kept = tl.exp(largest - shift)
        value = tl.exp(logit - shift[:, None])
        total = total * kept + tl.sum(value, 1)
        if PULL:
            pull = pull * kept[:, None] + tl.dot(value.to(other.dtype), other, input_precision="ieee")
        largest = new
    inside = rows < queries
    total = tl.where(largest == float("-inf"), 1.0, total)  # no negatives: -inf + log 1, and no pull
    tl.store(sum_at + rows, largest + tl.log(total), mask=inside)
    if PULL:
        pull = pull / total[:, None]
        wide = tl.arange(0, WIDTH)
        at = pull_at + rows[:, None].to(tl.int64) * width + wide[None, :]
        tl.store(at, pull, mask=inside[:, None] & (wide[None, :] < width))


@triton.jit
def pull_of_queries(
    query_at, negatives_at, inverse_at, index, of, excluded, sum_at, gradient_at, pull_at, queries, negatives, width,
    most, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradient with respect to each negative j, ``Σ_i g_i softmax(l)_ij q_i``, without the factor 1/τ.

    Each program computes one block of negatives.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    other = _rows(negatives_at, columns, negatives, width, WIDTH)
    inverse = tl.load(inverse_at)
    pull = tl.zeros((COLUMNS, WIDTH), tl.float32)
    for start in range(0, queries, ROWS):
        rows = start + tl.arange(0, ROWS)
        query = _rows(query_at, rows, queries, width, WIDTH)
        logit = _logits(query, other, rows, columns, inverse, index, of, excluded, queries, negatives, most, PARTS)
        share = _shares(logit, rows, sum_at, gradient_at, queries)
        pull += tl.dot(tl.trans(share).to(query.dtype), query, input_precision="ieee")
    wide = tl.arange(0, WIDTH)
    at = pull_at + columns[:, None].to(tl.int64) * width + wide[None, :]
    tl.store(at, pull, mask=(columns[:, None] < negatives) & (wide[None, :] < width))


@triton.jit
def pull_within(
    rows_at, inverse_at, index, excluded, sum_at, gradient_at, pull_at, count, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradient of rows that are both queries and negatives, from one product per block.

    It is the sum of both gradients of a row, as a query and as a negative, without the factor 1/τ.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    query = _rows(rows_at, rows, count, width, WIDTH)
    inverse = tl.load(inverse_at)
    pull = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, count, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        other = _rows(rows_at, columns, count, width, WIDTH)
        logit = _logits(query, other, rows, columns, inverse, index, index, excluded, count, count, 0, 1)
        share = _shares(logit, rows, sum_at, gradient_at, count)
        share += tl.trans(_shares(tl.trans(logit), columns, sum_at, gradient_at, count))
        pull += tl.dot(share.to(other.dtype), other, input_precision="ieee")
    wide = tl.arange(0, WIDTH)
    at = pull_at + rows[:, None].to(tl.int64) * width + wide[None, :]
    tl.store(at, pull, mask=(rows[:, None] < count) & (wide[None, :] < width))


@triton.jit
def _shares(logit, rows, sum_at, gradient_at, queries):
    """``g_i softmax(l)_ij``; 0 for a query without negatives."""
    total = tl.load(sum_at + rows, mask=rows < queries, other=0.0)
    gradient = tl.load(gradient_at + rows, mask=rows < queries, other=0.0)
    shift = tl.where(total == float("-inf"), 0.0, total)
    return tl.exp(logit - shift[:, None]) * gradient[:, None]
