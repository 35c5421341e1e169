"""Exact nearest keys by inner product. The one file that imports faiss."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.errors import InputError

__all__ = ["nearest"]

_TILE = 1 << 25
"""Scores held at once by the matrix product: 128 MiB of float32."""


def nearest(
    query: Float[Tensor, "b d"], keys: Float[Tensor, "k d"], count: int
) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
    """The `count` keys of largest inner product with each query, exact, best first, without a gradient.

    float32 on the CPU is searched by faiss. CUDA, where faiss was not measured, and float64, which faiss does not know,
    take a matrix product in chunks; half precision is searched as float32. Equal scores come in any order.

    Args:
        query: rows to find neighbours for; unit rows make the inner product a cosine.
        keys: rows to search, on the queries' device.
        count: neighbours a query.

    Returns:
        The inner products, and which rows of `keys` they belong to (int64).

    Raises:
        InputError: where `count` is not from 1 to k, the widths differ, there is no query, or a number is not finite.

    Example:
        >>> keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> scores, columns = nearest(torch.tensor([[1.0, 0.0]]), keys, 2)
        >>> columns.tolist()
        [[0, 2]]
    """
    _check(query, keys, count)
    query, keys = _at_least_float32(query.detach()), _at_least_float32(keys.detach())
    if query.device.type == "cpu" and query.dtype == keys.dtype == torch.float32:
        return _search_faiss(query, keys, count)
    return _search_tiles(query, keys, count)


def _check(query: Tensor, keys: Tensor, count: int) -> None:
    if len(query) == 0 or len(keys) == 0:
        raise InputError(f"nothing to search: {len(query)} queries, {len(keys)} keys; give at least one of each")
    if query.shape[1] != keys.shape[1]:
        raise InputError(f"queries of width {query.shape[1]} and keys of width {keys.shape[1]} have no inner product")
    if not 1 <= count <= len(keys):
        raise InputError(f"{count} neighbours of {len(keys)} keys: ask for 1 to {len(keys)}")
    for name, rows in (("queries", query), ("keys", keys)):
        # faiss would drop a NaN row in silence. The sum finds one in a thirtieth of the time that asking each number
        # takes, and only a sum beyond the type's range needs the slow answer.
        if not torch.isfinite(rows.sum()) and not torch.isfinite(rows).all():
            raise InputError(f"the {name} hold NaN or infinity: check what computed them")


def _search_faiss(query: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    faiss = _faiss()
    # faiss keeps a thread pool of its own; it is given what torch was told to use.
    faiss.omp_set_num_threads(torch.get_num_threads())
    scores, columns = faiss.knn(query.numpy(), keys.numpy(), count, metric=faiss.METRIC_INNER_PRODUCT)
    return torch.from_numpy(scores), torch.from_numpy(columns)


def _search_tiles(query: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    rows = max(1, _TILE // len(keys))
    found = [torch.topk(chunk @ keys.T, count, dim=1) for chunk in torch.split(query, rows)]
    return torch.cat([scores for scores, _ in found]), torch.cat([columns for _, columns in found])


def _at_least_float32(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


@functools.cache
def _faiss() -> Any:
    # Imported on first use: it takes a second and most commands search nothing.
    faiss = importlib.import_module("faiss")
    # By default faiss searches without BLAS where b · d < 128,000, the slower way.
    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss
