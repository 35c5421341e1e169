"""Pairs with negatives from a memory bank, and pairs without negatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.banks import Negatives
from contrast.pairs import MINED, UNKNOWN, Pairs

__all__ = ["negative_free_pairs", "with_offered"]


def with_offered(pairs: Pairs, offered: Sequence[Negatives]) -> Pairs:
    """Add a memory bank's negatives to the pairs, after the existing negatives.

    Args:
        pairs: pairs without own negatives.
        offered: negatives from a single bank, or from one bank per head in the order of the heads. All banks of a
            method hold the same samples.
    """
    first = offered[0]
    changes: dict[str, Tensor] = {}
    if first.keys.shape[-2]:
        rows = _by_head(pairs, [each.keys for each in offered])
        changes = {
            "negatives": _behind(pairs.negatives, rows, dim=-2),
            "negative_index": _behind(pairs.negative_index, first.index),
            "placeholder": _behind(
                _marks(pairs.placeholder, pairs.negative_index), _marks(first.placeholder, first.index)
            ),
        }
    own = [each.own for each in offered if each.own is not None]
    if own:
        rows = _by_head(pairs, own)
        changes |= {
            "own_negatives": rows,
            "own_negative_index": _common([each.own_index for each in offered if each.own_index is not None]),
            "own_negative_kind": torch.full((rows.shape[-2],), MINED, device=rows.device),
        }
    return dataclasses.replace(pairs, **changes) if changes else pairs


def _behind(before: Tensor, rows: Tensor, dim: int = 0) -> Tensor:
    """Concatenate, or return `rows` if there is nothing before them: a bank has many rows, so a copy is avoided."""
    return torch.cat([before, rows.to(before.dtype)], dim=dim) if before.shape[dim] else rows


def _marks(placeholder: Tensor | None, index: Tensor) -> Tensor:
    return torch.zeros_like(index, dtype=torch.bool) if placeholder is None else placeholder


def _by_head(pairs: Pairs, rows: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(rows)) if pairs.query.ndim == 3 else rows[0]


def _common(index: Sequence[Tensor]) -> Tensor:
    """Sample index of own negatives; unknown where the heads differ, because pairs keep one index for all heads."""
    # The banks have already excluded rows of the query's own sample, and every head has the same number of rows.
    agreed = torch.stack(list(index))
    same = (agreed == agreed[0]).all(dim=0)
    return torch.where(same, agreed[0], UNKNOWN)


def negative_free_pairs(
    query: Float[Tensor, "*h n d"], positive: Float[Tensor, "... n d"], index: Int[Tensor, " n"], view: int = 0
) -> Pairs:
    """Pairs without negatives, in one direction, as in SimSiam and BYOL.

    Args:
        query: the queries, (*h, n, d).
        positive: rows of the same samples, (*h, n, d), or (n, d) for all heads.
        index: the training sample of each row, (n,).
        view: the view of the queries. It keys their random numbers.

    Example:
        >>> negative_free_pairs(torch.zeros(3, 4, 8), torch.zeros(4, 8), torch.arange(4)).positive.shape
        torch.Size([3, 4, 8])
    """
    none = query.new_zeros((*query.shape[:-2], 0, query.shape[-1]))
    views = torch.full_like(index, view)
    return Pairs(query, positive.expand_as(query), none, index, index.new_zeros(0), view=views)
