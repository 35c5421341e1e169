"""Score blocks of sampled queries: negatives by kind, ranks by hardness, and same-class shares."""

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
    """Same-class share of each negative in a tile (1 for a false negative), and a mask of negatives where it is known.

    A negative that is mixed from two samples counts by those parents whose label is known. The share is unknown for a
    row of unknown sample, a row without a label, and all negatives of a query without a label.

    Args:
        labels: labels of the training samples, (n,); -1 for no label.
        pairs: pairs that the negatives belong to.
        tile: block of negatives.

    Returns:
        Share of the query's class, (*h, b, t), 0 where it is unknown; and 1 where the share is known, else 0,
        (*h, b, t).
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
    """Probability that a random sample is a false negative: ``(n_class - 1) / (N - 1)`` over the labelled samples.

    Args:
        labels: labels of the training samples, (n,); -1 for no label.
        index: sample of each query, (b,).

    Returns:
        The probability, float64, (b,); and whether the query's class is known, (b,).
    """
    many = torch.bincount((labels + 1).clamp(min=0))  # entry 0 counts the samples without a label
    own = _labels_at(labels, index)
    known = own >= 0
    return (many[own + 1].double() - 1) / (many[1:].sum() - 1).clamp(min=1), known


def as_numbers(mask: Bool[Tensor, "..."], like: Tensor) -> Float[Tensor, "..."]:
    """Convert a boolean mask to 1 and 0; through uint8, which is several times as fast as from booleans."""
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
"""Last hardness rank of each rank group (rank 1 is the hardest); one more group holds all further ranks."""


@functools.cache
def _groups(ranks: int) -> Array:
    """Matrix (ranks, groups) with 1 where a rank is in a group; one matrix product replaces a sum per group."""
    within = np.arange(ranks)[:, None] < np.array(RANK_ENDS)
    return np.diff(within.astype(np.float64), axis=1, prepend=0.0)


class Ranked:
    """Running top-k of the hardest negatives of each query, with further numbers per negative.

    Attributes:
        score: scores of the hardest negatives, (n, r), hardest first; -inf where a query has fewer.
        numbers: further numbers of the same negatives, (n, r) each, in the order in which they are added.
        totals: sums over all negatives of a query, (m, n): their number, the sum of their scores, and the sum of each
            further number.
    """

    def __init__(self) -> None:
        self.score: Tensor | None = None
        self.numbers: list[Tensor] = []
        self.totals: Tensor | None = None

    def add(
        self, score: Float[Tensor, "n t"], numbers: Sequence[Float[Tensor, "n t"]], totals: Float[Tensor, "m n"]
    ) -> None:
        """Add a tile of negatives.

        Args:
            score: scores, (n, t); -inf where there is no negative.
            numbers: further numbers, (n, t) each; 0 where there is no negative.
            totals: sums over the tile, (m, n): number of negatives, sum of scores, and sum of each further number.
        """
        top, place = score.topk(min(RANK_ENDS[-1], score.shape[1]), dim=1)
        self._merge(top, [each.gather(1, place) for each in numbers], totals)

    def merged(self, other: Ranked) -> Ranked:
        """Merge with the top-k of other negatives of the same queries."""
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
        """Copy to numpy arrays on the CPU."""
        if self.score is None or self.totals is None:
            return RankedNumbers(np.zeros((0, 0)), [], np.zeros((0, 0)))
        return RankedNumbers(array(self.score), [array(each) for each in self.numbers], array(self.totals))


class RankedNumbers(NamedTuple):
    """Hardest negatives of each query as numpy arrays: the content of a `Ranked`.

    Attributes:
        score: scores of the hardest negatives, (n, r), hardest first; -inf where a query has fewer.
        numbers: further numbers of the same negatives, (n, r) each.
        totals: sums over all negatives of a query, (m, n).
    """

    score: Array
    numbers: list[Array]
    totals: Array

    def by_group(self) -> Array:
        """Sums by rank group, (m, n, groups).

        The m sums of each query are: number of negatives, sum of scores, and sum of each further number.
        """
        there = ~np.isneginf(self.score)
        every = np.stack([there, np.where(there, self.score, 0.0), *self.numbers])
        kept = every @ _groups(every.shape[-1])
        rest = self.totals - kept.sum(axis=-1)
        # Where every negative was kept, the remainder of a subtraction is rounding error.
        rest[:, rest[0] < 0.5] = 0.0
        return np.concatenate([kept, rest[..., None]], axis=-1)


PLACEHOLDER = "placeholder"
"""Kind of shared negatives that are not a sample's embedding, such as a queue's random start."""

KINDS = {MINED: "mined", PAIR_MIX: "pair_mix", QUERY_MIX: "query_mix"}
SOURCES = {"shared": "shared", "mined": "mined", "pair_mix": "mixed", "query_mix": "mixed"}
"""Source under which negatives of each kind are counted in the false-negative statistics."""
_BLOCK = 1 << 22
"""Scores per block, so that temporaries fit in memory."""


class Block(NamedTuple):
    """Block of negatives of one kind; heads and queries are flattened to one axis n.

    Attributes:
        kind: shared, mined, pair_mix, query_mix or placeholder.
        tile: tile that the block belongs to, with its own axes.
        score: scores, (n, t).
        weight: 1 for an offered negative, else 0, (n, t), in the scores' dtype, because arithmetic is faster than
            masks.
        same: same-class share of each negative, (n, t); 0 where it is unknown. None without labels.
        told: 1 where the same-class share is known and the negative is offered, else 0, (n, t). None without labels.
    """

    kind: str
    tile: Tile
    score: Float[Tensor, "n t"]
    weight: Float[Tensor, "n t"]
    same: Float[Tensor, "n t"] | None
    told: Float[Tensor, "n t"] | None


def blocks(pairs: Pairs, negatives: NegativeLogits, labels: Int[Tensor, " n"] | None) -> Iterator[Block]:
    """Iterate over the negatives by kind, in blocks of bounded size.

    Placeholders are a separate kind: the loss has them among its negatives, and statistics of negatives exclude them.

    Args:
        pairs: pairs after the transforms.
        negatives: their logits.
        labels: labels of the training samples, (n,); None without labels.
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
        # Both kinds cover the same columns; skip a kind that has none of them.
        for kind, columns in (("shared", ~marked), (PLACEHOLDER, marked)):
            if bool(columns.any()):
                yield kind, tile._replace(offered=tile.offered & columns)
        return
    kinds = pairs.own_negative_kind
    if kinds is None:
        yield "mined", tile
        return
    start = 0
    # Transforms append, so each kind is contiguous: a slice without a copy.
    runs = (each.tolist() for each in torch.unique_consecutive(kinds, return_counts=True))
    for kind, count in zip(*runs, strict=True):
        yield KINDS[kind], _columns(tile, slice(start, start + count))
        start += count


def _columns(tile: Tile, columns: slice) -> Tile:
    score, logit, offered = (each[..., columns] for each in tile[:3])
    return Tile(score, logit, offered, tile.own, tile.start + columns.start)
