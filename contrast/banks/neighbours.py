"""The nearest stored keys of other samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.nearest import nearest
from contrast.pairs import UNKNOWN

__all__ = ["Neighbours", "SearchOf", "nearest_of_others"]

SearchOf = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""From queries, keys and a count to scores and rows, best first; -inf and -1 where it found fewer."""


class Neighbours(NamedTuple):
    """Stored rows of each query, nearest first: inner products and places; -inf and -1 where there are no more."""

    score: Float[Tensor, "b n"]
    row: Int[Tensor, "b n"]


def nearest_of_others(
    query: Float[Tensor, "b d"],
    index: Int[Tensor, " b"],
    keys: Float[Tensor, "k d"],
    key_index: Int[Tensor, " k"],
    count: int,
    search: SearchOf = nearest,
) -> Neighbours:
    """The `count` nearest keys of each query that are not of its own sample.

    Args:
        query: rows to search for.
        index: which sample each is of; -1 leaves nothing out.
        keys: rows to search.
        key_index: which sample each is of.
        count: rows a query, of which there may be fewer.
        search: finds the nearest keys of any sample.
    """
    wide = query.to(torch.float64 if keys.dtype == torch.float64 else torch.float32)
    spare = 1 if bool((index != UNKNOWN).any()) else 0  # own rows that the search may come upon
    while True:
        most = min(count + spare, len(keys))
        if not most:
            return Neighbours(
                wide.new_full((len(query), count), -torch.inf), torch.full_like(index, -1)[:, None].expand(-1, count)
            )
        score, row = search(wide, keys, most)
        own = (key_index[row.clamp(min=0)] == index[:, None]) & (index[:, None] != UNKNOWN) & (row >= 0)
        if most == len(keys) or int((~own).sum(dim=1).min()) >= count:
            break
        spare = 4 * spare + 1
    order = own.long().argsort(dim=1, stable=True)  # own rows to the end, the others, best first, as they are
    score, row = score.masked_fill(own, -torch.inf).gather(1, order), row.masked_fill(own, -1).gather(1, order)
    missing = max(0, count - most)
    score = torch.nn.functional.pad(score[:, :count], (0, missing), value=-torch.inf)
    return Neighbours(score, torch.nn.functional.pad(row[:, :count], (0, missing), value=-1))
