"""Negatives in blocks of one kind and bounded size, with what labels tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.losses import NegativeLogits, Tile
from contrast.observation.same_class import as_numbers, same_class
from contrast.pairs import MINED, PAIR_MIX, QUERY_MIX, Pairs

__all__ = ["KINDS", "PLACEHOLDER", "SOURCES", "Block", "blocks"]

PLACEHOLDER = "placeholder"
"""The kind of shared negatives that are no sample's embedding, such as a queue's random start."""

KINDS = {MINED: "mined", PAIR_MIX: "pair_mix", QUERY_MIX: "query_mix"}
SOURCES = {"shared": "shared", "mined": "mined", "pair_mix": "mixed", "query_mix": "mixed"}
"""How negatives of a kind are counted when false ones are asked for."""
_BLOCK = 1 << 22
"""Scores that are looked at together: their temporaries fit."""


class Block(NamedTuple):
    """Negatives of one kind, heads and queries in one axis n.

    Attributes:
        kind: shared, mined, pair_mix, query_mix or placeholder.
        tile: where they come from, with its own axes.
        score: (n, t).
        weight: 1 for what is offered and 0 for the rest, in the scores' type: arithmetic is faster than masks.
        same: of which share each is of the query's class, 0 where that is not known; None without labels.
        told: 1 where it is known and offered, else 0; None without labels.
    """

    kind: str
    tile: Tile
    score: Float[Tensor, "n t"]
    weight: Float[Tensor, "n t"]
    same: Float[Tensor, "n t"] | None
    told: Float[Tensor, "n t"] | None


def blocks(pairs: Pairs, negatives: NegativeLogits, labels: Int[Tensor, " n"] | None) -> Iterator[Block]:
    """The negatives by kind, in pieces of bounded size.

    Placeholders are a kind of their own: the loss has them among its negatives, and statistics of negatives leave them
    out.
    """
    for tile in negatives.tiles():
        for kind, part in _by_kind(pairs, tile):
            rows = part.score.shape[:-1].numel()
            columns = max(1, _BLOCK // max(1, rows))
            for start in range(0, part.score.shape[-1], columns):
                piece = _columns(part, slice(start, start + columns))
                score = piece.score.flatten(0, -2)
                weight = as_numbers(piece.offered, score).expand_as(piece.score).flatten(0, -2)
                same = told = None
                if labels is not None:
                    share, known = same_class(labels, pairs, piece)
                    told = known.flatten(0, -2) * weight
                    same = share.flatten(0, -2) * told
                yield Block(kind, piece, score, weight, same, told)


def _by_kind(pairs: Pairs, tile: Tile) -> Iterator[tuple[str, Tile]]:
    if not tile.own:
        if pairs.placeholder is None:
            yield "shared", tile
            return
        marked = pairs.placeholder[tile.start : tile.start + tile.score.shape[-1]]
        # Blocks of a kind are of the same columns: one of them has nothing to offer where all are alike.
        for kind, columns in (("shared", ~marked), (PLACEHOLDER, marked)):
            if bool(columns.any()):
                yield kind, tile._replace(offered=tile.offered & columns)
        return
    kinds = pairs.own_negative_kind
    if kinds is None:
        yield "mined", tile
        return
    start = 0
    # Transforms append, so that a kind stands together: a slice of each, without a copy.
    runs = (each.tolist() for each in torch.unique_consecutive(kinds, return_counts=True))
    for kind, count in zip(*runs, strict=True):
        yield KINDS[kind], _columns(tile, slice(start, start + count))
        start += count


def _columns(tile: Tile, columns: slice) -> Tile:
    score, logit, offered = (each[..., columns] for each in tile[:3])
    return Tile(score, logit, offered, tile.own, tile.start + columns.start)
