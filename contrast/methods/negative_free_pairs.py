"""Pairs without negatives, for losses that look at a query and its positive alone."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.pairs import Pairs

__all__ = ["negative_free_pairs"]


def negative_free_pairs(
    query: Float[Tensor, "*h n d"], positive: Float[Tensor, "... n d"], index: Int[Tensor, " n"], view: int = 0
) -> Pairs:
    """One direction of queries and their positives, with no negatives.

    Args:
        query: (*h, n, d).
        positive: rows of the same samples, (*h, n, d), or (n, d) for all heads alike.
        index: which sample each row is of, (n,).
        view: which view the queries are; it keys their random numbers.

    Example:
        >>> negative_free_pairs(torch.zeros(3, 4, 8), torch.zeros(4, 8), torch.arange(4)).positive.shape
        torch.Size([3, 4, 8])
    """
    none = query.new_zeros((*query.shape[:-2], 0, query.shape[-1]))
    views = torch.full_like(index, view)
    return Pairs(query, positive.expand_as(query), none, index, index.new_zeros(0), view=views)
