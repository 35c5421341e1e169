"""Score blocks of sampled queries, their ranks, and same-class pairs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.losses import NegativeLogits, Tile
from contrast.observation.sums import Array, array
from contrast.pairs import MINED, PAIR_MIX, QUERY_MIX, Pairs

__all__ = [
    "KINDS",
    "PLACEHOLDER",
    "RANK_ENDS",
    "SOURCES",
    "Block",
    "Ranked",
    "RankedNumbers",
    "as_numbers",
    "blocks",
    "chance",
    "same_class",
]


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


RANK_ENDS = tuple(2**power for power in range(8))
"""The last rank of each group, 1 the hardest; one more group holds all further ranks."""


@functools.cache
def _groups(ranks: int) -> Array:
    """1 where a rank is in a group, (ranks, groups): one product in place of a sum for each."""
    within = np.arange(ranks)[:, None] < np.array(RANK_ENDS)
    return np.diff(within.astype(np.float64), axis=1, prepend=0.0)


class Ranked:
    """The hardest negatives of each query, with numbers that belong to them.

    Attributes:
        score: (n, r), the hardest first; -inf where a query has fewer.
        numbers: (n, r) each, in the order in which they are added.
        totals: (n,), over all negatives: how many there are, the sum of their scores, and of each number.
    """

    def __init__(self) -> None:
        self.score: Tensor | None = None
        self.numbers: list[Tensor] = []
        self.totals: Tensor | None = None

    def add(
        self, score: Float[Tensor, "n t"], numbers: Sequence[Float[Tensor, "n t"]], totals: Float[Tensor, "m n"]
    ) -> None:
        """Add a tile.

        Args:
            score: -inf where there is no negative.
            numbers: what each carries, 0 where there is no negative.
            totals: how many there are in the tile, the sum of their scores, and of each number.
        """
        top, place = score.topk(min(RANK_ENDS[-1], score.shape[1]), dim=1)
        self._merge(top, [each.gather(1, place) for each in numbers], totals)

    def merged(self, other: Ranked) -> Ranked:
        """Both together."""
        both = Ranked()
        for each in (self, other):
            if each.score is not None and each.totals is not None:
                both._merge(each.score, each.numbers, each.totals)
        return both

    def _merge(self, score: Tensor, numbers: Sequence[Tensor], totals: Tensor) -> None:
        if self.score is None or self.totals is None:
            self.score, self.numbers, self.totals = score, list(numbers), totals
            return
        every = torch.cat([self.score, score], dim=1)
        self.score, place = every.topk(min(RANK_ENDS[-1], every.shape[1]), dim=1)
        both = zip(self.numbers, numbers, strict=True)
        self.numbers = [torch.cat([before, more], dim=1).gather(1, place) for before, more in both]
        self.totals = self.totals + totals

    def looked_at(self) -> RankedNumbers:
        """The same as arrays."""
        if self.score is None or self.totals is None:
            return RankedNumbers(np.zeros((0, 0)), [], np.zeros((0, 0)))
        return RankedNumbers(array(self.score), [array(each) for each in self.numbers], array(self.totals))


class RankedNumbers(NamedTuple):
    """What `Ranked` has, on the CPU."""

    score: Array
    numbers: list[Array]
    totals: Array

    def by_group(self) -> Array:
        """How many negatives of each query are in each rank group, the sum of their scores, and of each number:
        (m, n, groups).
        """
        there = ~np.isneginf(self.score)
        every = np.stack([there, np.where(there, self.score, 0.0), *self.numbers])
        kept = every @ _groups(every.shape[-1])
        rest = self.totals - kept.sum(axis=-1)
        # What is left of a sum by subtraction is rounding where every negative was kept.
        rest[:, rest[0] < 0.5] = 0.0
        return np.concatenate([kept, rest[..., None]], axis=-1)


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
