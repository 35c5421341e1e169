"""Which negatives are false: of the query's own class, as far as labels tell."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.losses import Tile
from contrast.pairs import Pairs

__all__ = ["same_class"]


def same_class(
    labels: Int[Tensor, " n"], pairs: Pairs, tile: Tile
) -> tuple[Float[Tensor, "*h b t"], Bool[Tensor, "*h b t"]]:
    """Of which share each negative of a tile is of its query's class, and whether that is known.

    A negative that is made of two samples counts by its parents whose label is known. Nothing is known of a row of no
    known sample, or without a label, and of any negative of a query without one.

    Args:
        labels: of the training samples, -1 for none.
        pairs: whose negatives these are.
        tile: a block of them.
    """
    of = _labels_at(labels, _parents(pairs, tile))  # (*h, b or 1, t, parents)
    query = _labels_at(labels, pairs.index)[:, None, None]
    known = of >= 0
    same = (of == query) & known
    told = known.any(dim=-1) & (query[..., 0] >= 0)
    share = same.sum(dim=-1).to(tile.score.dtype) / known.sum(dim=-1).clamp(min=1)
    return share.expand_as(tile.score), told.expand_as(tile.score)


def _parents(pairs: Pairs, tile: Tile) -> Tensor:
    stop = tile.start + tile.score.shape[-1]
    if not tile.own:
        of = pairs.negative_index[tile.start : stop]
        return (of[:, None] if of.ndim == 1 else of)[None]
    if pairs.own_negative_parents is not None:
        return pairs.own_negative_parents[..., tile.start : stop, :]
    assert pairs.own_negative_index is not None
    return pairs.own_negative_index[:, tile.start : stop, None]


def _labels_at(labels: Tensor, index: Tensor) -> Tensor:
    return torch.where(index >= 0, labels[index.clamp(min=0)], -1)
