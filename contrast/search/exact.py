"""Exact top-k search by inner product."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.errors import InputError
from contrast.search._faiss import on_cuda, with_torch_threads

__all__ = ["BUDGET_MIB", "Engine", "nearest"]

Engine = Literal["faiss", "torch"]
Found = tuple[Tensor, Tensor]
BUDGET_MIB = 512.0
"""Default memory limit of a search in MiB, in addition to its queries and keys."""
_MIB = 1 << 20
_MANY, _LARGE = 1024, 65_536  # number of neighbours and of keys from which faiss is faster on a CPU
_AT_ONCE = 1024  # queries per block: enough for a fast matrix product; all keys then often fit in one block
_SUMMED = 1 << 17  # rows that are checked for NaN and infinity at a time
_FAISS_ON_CUDA = 2048  # faiss's limit of neighbours per query on a GPU


def nearest(
    query: Float[Tensor, "b d"],
    keys: Float[Tensor, "k d"],
    count: int,
    engine: Engine | None = None,
    budget_mib: float = BUDGET_MIB,
) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
    """Exact top-k search by inner product: the `count` nearest keys of each query, best first, without a gradient.

    Both engines give the same neighbours in the same order, except for exact ties, whose order is undefined.
    Half-precision keys are converted to float32 one block at a time, never all at once.

    Args:
        query: rows to find neighbours for. With unit-norm rows the inner product is the cosine similarity.
        keys: rows to search, on the same device as the queries.
        count: number of neighbours per query (k).
        engine: "faiss" or "torch"; None selects the faster engine as measured. On a CPU this is torch, except for at
            least 1,024 neighbours of at least 65,536 keys, where it is faiss. On CUDA, where faiss was not measured,
            and for float64 it is torch.
        budget_mib: memory limit in MiB for the results, one block of scores and one block of converted keys together.

    Returns:
        The inner products, and the rows of `keys` that they belong to (int64).

    Raises:
        InputError: if `count` is not from 1 to k, the widths differ, there are no queries or no keys, a value is NaN or
            infinite, the budget is too small, or the engine does not support the search.

    Example:
        >>> keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> scores, columns = nearest(torch.tensor([[1.0, 0.0]]), keys, 2)
        >>> columns.tolist()
        [[0, 2]]
    """
    _check(query, keys, count)
    query, keys = query.detach(), keys.detach()
    query = query.float() if _is_half(query) else query
    engine = engine or _faster(query, keys, count)
    if engine == "torch":
        return _search_torch(query, keys, count, budget_mib)
    if query.dtype != torch.float32 or keys.dtype == torch.float64:
        raise InputError("faiss searches float32 and half precision, not float64: take engine torch")
    if query.is_cuda:
        return _search_cuda(query, keys, count, budget_mib)
    return _search_faiss(query, keys, count, budget_mib)


def _faster(query: Tensor, keys: Tensor, count: int) -> Engine:
    """Select the faster engine, as measured on a CPU by benchmarks/search.py; the table is in docs/banks.md."""
    faiss_knows = query.dtype == torch.float32 and keys.dtype != torch.float64 and not query.is_cuda
    return "faiss" if faiss_knows and count >= _MANY and len(keys) >= _LARGE else "torch"


def _search_torch(query: Tensor, keys: Tensor, count: int, budget_mib: float) -> Found:
    rows, columns = _blocks(query, keys, count, budget_mib, scores=True)
    found = []
    scores = query.new_empty(rows * columns)  # reused by all blocks: allocating costs a tenth of the product
    for chunk in torch.split(query, rows):
        best: Found | None = None
        for start in range(0, len(keys), columns):
            block = keys[start : start + columns].to(query.dtype)
            tile = scores[: len(chunk) * len(block)].view(len(chunk), len(block))
            score, column = torch.topk(torch.mm(chunk, block.T, out=tile), min(count, len(block)), dim=1)
            del block  # otherwise two blocks are in memory while the next block is converted
            best = _merged(best, (score, column + start), count)
        assert best is not None
        found.append(best)
    return torch.cat([score for score, _ in found]), torch.cat([column for _, column in found])


def _search_faiss(query: Tensor, keys: Tensor, count: int, budget_mib: float) -> Found:
    faiss = with_torch_threads()
    _, columns = _blocks(query, keys, count, budget_mib, scores=False)
    best: Found | None = None
    for start in range(0, len(keys), columns):
        block = keys[start : start + columns].float()
        most = min(count, len(block))
        score, column = faiss.knn(query.numpy(), block.numpy(), most, metric=faiss.METRIC_INNER_PRODUCT)
        del block
        best = _merged(best, (torch.from_numpy(score), torch.from_numpy(column) + start), count)
    assert best is not None
    return best


def _search_cuda(query: Tensor, keys: Tensor, count: int, budget_mib: float) -> Found:
    if count > _FAISS_ON_CUDA:
        raise InputError(f"faiss finds up to {_FAISS_ON_CUDA} neighbours on CUDA, not {count}: take engine torch")
    _, columns = _blocks(query, keys, count, budget_mib / 2, scores=False)
    faiss, resources = on_cuda(int(budget_mib / 2 * _MIB))
    best: Found | None = None
    for start in range(0, len(keys), columns):
        block = keys[start : start + columns].float().contiguous()
        most, metric = min(count, len(block)), faiss.METRIC_INNER_PRODUCT
        score, column = faiss.knn_gpu(
            resources, query.contiguous(), block, most, metric=metric, device=query.device.index
        )
        del block
        best = _merged(best, (score, column + start), count)
    assert best is not None
    return best


def _merged(best: Found | None, more: Found, count: int) -> Found:
    if best is None:
        return more
    score, column = (torch.cat(pair, dim=1) for pair in zip(best, more, strict=True))
    score, place = torch.topk(score, min(count, score.shape[1]), dim=1)
    return score, column.gather(1, place)


def _blocks(query: Tensor, keys: Tensor, count: int, budget_mib: float, scores: bool) -> tuple[int, int]:
    """Number of queries and number of keys per block: the largest that the memory limit allows."""
    number, (queries, width) = query.dtype.itemsize, query.shape
    widened = width * number if keys.dtype != query.dtype else 0
    found = number + 8  # a score and its int64 column
    budget = int(budget_mib * _MIB) - queries * count * found
    rows = min(queries, _AT_ONCE) if scores else queries
    while True:
        merging = 4 * rows * count * found  # two results, their concatenation, and the best of both
        columns = (budget - merging) // max(1, widened + rows * number * scores)
        if columns >= min(len(keys), max(count, 4096)):
            return rows, min(columns, len(keys)) if widened or scores else len(keys)
        if rows == 1:
            raise InputError(
                f"{queries:,} queries x {count:,} neighbours of {len(keys):,} keys: the results take "
                f"{queries * count * found / _MIB:.1f} MiB, plus a block of keys, and the search's budget is "
                f"{budget_mib:g} MiB: raise it, or search for fewer at once"
            )
        rows = -(-rows // 2)


def _check(query: Tensor, keys: Tensor, count: int) -> None:
    if len(query) == 0 or len(keys) == 0:
        raise InputError(f"nothing to search: {len(query)} queries, {len(keys)} keys; give at least one of each")
    if query.shape[1] != keys.shape[1]:
        raise InputError(f"queries of width {query.shape[1]} and keys of width {keys.shape[1]} have no inner product")
    if not 1 <= count <= len(keys):
        raise InputError(f"{count} neighbours of {len(keys)} keys: ask for 1 to {len(keys)}")
    for name, rows in (("queries", query), ("keys", keys)):
        # faiss silently drops a row with NaN. Summing finds NaN in a thirtieth of the time of an elementwise check; the
        # elementwise check runs only if a sum is not finite, because a sum may overflow. We sum block by block, because
        # torch converts a whole half-precision tensor before it sums.
        dtype = torch.float32 if _is_half(rows) else rows.dtype
        sums = torch.stack([block.sum(dtype=dtype) for block in torch.split(rows, _SUMMED)])
        if not torch.isfinite(sums).all() and not torch.isfinite(rows).all():
            raise InputError(f"the {name} hold NaN or infinity: check what computed them")


def _is_half(rows: Tensor) -> bool:
    return rows.dtype in (torch.float16, torch.bfloat16)
