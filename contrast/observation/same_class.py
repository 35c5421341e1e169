"""Which negatives are false: of the query's own class, as far as labels tell."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.losses import Tile
from contrast.pairs import Pairs

__all__ = ["as_numbers", "chance", "same_class"]


def same_class(
    labels: Int[Tensor, " n"], pairs: Pairs, tile: Tile
) -> tuple[Float[Tensor, "*h b t"], Float[Tensor, "*h b t"]]:
    """Of which share each negative of a tile is of its query's class, and 1 where that is known, else 0.

    A negative that is made of two samples counts by its parents whose label is known. Nothing is known of a row of no
    known sample, or without a label, and of any negative of a query without one.

    Args:
        labels: of the training samples, -1 for none.
        pairs: whose negatives these are.
        tile: a block of them.
    """
    of = _labels_at(labels, _parents(pairs, tile)).unbind(dim=-1)  # (*h, b or 1, t) of each parent
    query = _labels_at(labels, pairs.index)[:, None]
    knows = as_numbers(query >= 0, tile.score)
    known = [as_numbers(each >= 0, tile.score) for each in of]
    if len(of) == 1:
        told = known[0] * knows
        return (as_numbers(of[0] == query, tile.score) * told).expand_as(tile.score), told.expand_as(tile.score)
    parents = torch.stack(known).sum(dim=0)
    same = sum(as_numbers(each == query, tile.score) * there for each, there in zip(of, known, strict=True))
    share = same * knows / parents.clamp(min=1)
    return share.expand_as(tile.score), (parents.clamp(max=1) * knows).expand_as(tile.score)


def chance(labels: Int[Tensor, " n"], index: Int[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """The share of each query's class among the other labelled samples, ``(n_class - 1) / (N - 1)``, and whether its
    class is known: what a sample that is taken at random is a false negative by.
    """
    many = torch.bincount((labels + 1).clamp(min=0))  # the first place counts those without a label
    own = _labels_at(labels, index)
    known = own >= 0
    return (many[own + 1].double() - 1) / (many[1:].sum() - 1).clamp(min=1), known


def as_numbers(mask: Bool[Tensor, "..."], like: Tensor) -> Float[Tensor, "..."]:
    """1 and 0 for True and False; by bytes, several times as fast as from booleans."""
    return mask.contiguous().view(torch.uint8).to(like.dtype)


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
