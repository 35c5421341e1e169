"""Logits of positives and negatives: sums, hardest negative and tiles, without the score matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from contrast.losses.base import wide
from contrast.losses.exclusion import LeftOut, left_out
from contrast.losses.partition import log_partition
from contrast.losses.temperature import Temperature
from contrast.pairs import NOT_OFFERED, UNKNOWN, Pairs

__all__ = [
    "DenseNegatives",
    "NegativeLogits",
    "PositiveLogits",
    "Tile",
    "TiledNegatives",
    "negative_logits",
    "own_negatives_offered",
    "positive_logits",
]


@dataclass(frozen=True)
class PositiveLogits:
    """Score (before the temperature) and logit (after it) of each query with its positive, (*h, b)."""

    score: Float[Tensor, "*h b"]
    logit: Float[Tensor, "*h b"]


class Tile(NamedTuple):
    """A block of negatives for observers, without gradient.

    Attributes:
        score: (*h, b, t), before the temperature.
        logit: (*h, b, t), after it.
        offered: (b, t), False where the query leaves the column out.
        own: whether the columns are own negatives rather than shared ones.
        start: the first column's place among them.
    """

    score: Tensor
    logit: Tensor
    offered: Tensor
    own: bool
    start: int


class NegativeLogits(ABC):
    """All that an objective may ask of the negatives; it never sees the matrix.

    Attributes:
        count: how many negatives each query really has, (b,).
    """

    count: Int[Tensor, " b"]

    @abstractmethod
    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        """``log Σ_j exp(scale · logit_j)`` over each query's negatives; -inf where it has none."""

    @abstractmethod
    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        """Score and logit of each query's hardest negative, chosen by the plain score."""

    @abstractmethod
    def logit_of(self, score: float) -> Float[Tensor, ""]:
        """The logit that a score would have, live in a learned temperature."""

    @abstractmethod
    def tiles(self) -> Iterator[Tile]:
        """The negatives block by block, without gradient, for observers."""


class DenseNegatives(NegativeLogits):
    """Negatives whose whole (b, k + s) matrix is held: exact, and the faster form where it is small."""

    def __init__(self, pairs: Pairs, temperature: Temperature) -> None:
        query, shared = wide(pairs.query), wide(pairs.negatives)
        score = query @ shared.transpose(-1, -2)
        logit = temperature(score, query[..., :, None, :], shared[..., None, :, :])
        offered = ~left_out(pairs, 0, shared.shape[-2])
        self._shared = shared.shape[-2]
        if pairs.own_negatives is not None:
            own = wide(pairs.own_negatives)
            own_score = torch.einsum("...bd,...bsd->...bs", query, own)
            own_logit = temperature(own_score, query[..., :, None, :], own)
            own_offered = own_negatives_offered(pairs)
            score, logit = torch.cat([score, own_score], dim=-1), torch.cat([logit, own_logit], dim=-1)
            offered = torch.cat([offered, own_offered], dim=-1)
        self._score, self._logit, self._offered, self._temperature = score, logit, offered, temperature
        self.count = offered.sum(dim=-1)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        # Left out after the scale: 0 · -inf would be NaN.
        return torch.logsumexp((self._logit * scale).masked_fill(~self._offered, -torch.inf), dim=-1)

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        none = self.count == 0
        if not self._score.shape[-1]:
            nothing = self._score.new_full(self._score.shape[:-1], -torch.inf)
            return nothing, nothing
        column = self._score.masked_fill(~self._offered, -torch.inf).argmax(dim=-1, keepdim=True)
        score, logit = (each.gather(-1, column).squeeze(-1) for each in (self._score, self._logit))
        return score.masked_fill(none, -torch.inf), logit.masked_fill(none, -torch.inf)

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._temperature.of_score(self._score.new_tensor(score))

    def tiles(self) -> Iterator[Tile]:
        score, logit = self._score.detach(), self._logit.detach()
        shared = slice(0, self._shared)
        yield Tile(score[..., shared], logit[..., shared], self._offered[..., shared], own=False, start=0)
        if score.shape[-1] > self._shared:
            own = slice(self._shared, None)
            yield Tile(score[..., own], logit[..., own], self._offered[..., own], own=True, start=0)


def positive_logits(pairs: Pairs, temperature: Temperature) -> PositiveLogits:
    """Score and logit of each query with its positive."""
    query, positive = wide(pairs.query), wide(pairs.positive)
    score = (query * positive).sum(dim=-1)
    return PositiveLogits(score, temperature(score, query, positive))


def own_negatives_offered(pairs: Pairs) -> Bool[Tensor, "b s"]:
    """Which of its own negatives each query is offered: rows that there are, and not of its own sample."""
    index = pairs.own_negative_index
    if index is None:
        return pairs.index.new_zeros((len(pairs.index), 0), dtype=torch.bool)
    unknown = index == UNKNOWN  # equal to nothing, a query's own unknown index included
    return (index != NOT_OFFERED) & (unknown | (index != pairs.index[:, None]))


_DENSE = 1 << 26
"""Scores (heads · queries · negatives) up to which the whole matrix is held: 256 MiB of float32."""
_LOOKED_AT = 1 << 22
"""The same where no gradient is asked for, as by who looks at the pairs: sums and tiles are both wanted then."""
_TILE = 1 << 24
"""Scores of one tile beyond that."""


def negative_logits(pairs: Pairs, temperature: Temperature) -> NegativeLogits:
    """The negatives of these pairs in the form that suits them; the numbers are the same either way."""
    rows = pairs.query.shape[:-1].numel()
    several = temperature.single() is None
    most = _DENSE if several else 0 if torch.is_grad_enabled() else _LOOKED_AT
    if rows * pairs.negatives.shape[-2] <= most:
        return DenseNegatives(pairs, temperature)
    return TiledNegatives(pairs, temperature, columns=max(1, _TILE // max(1, rows)))


class TiledNegatives(NegativeLogits):
    """Negatives whose scores are made block by block when they are asked for, in forward and again in backward.

    Memory is that of a block, gradients of query, negatives and temperature are those of `DenseNegatives`. One
    temperature for all pairs has a function of its own, `log_partition`; with temperatures of each pair, a tile is
    computed again by autograd's checkpoints. Own negatives are held whole, since their rows are there anyway.

    Args:
        pairs: transformed pairs.
        temperature: scores to logits.
        columns: shared negatives a tile, where tiles are looked at or have temperatures of their own.
    """

    def __init__(self, pairs: Pairs, temperature: Temperature, columns: int) -> None:
        self._pairs, self._temperature = pairs, temperature
        self._query, self._shared = wide(pairs.query), wide(pairs.negatives)
        self._own = None if pairs.own_negatives is None else wide(pairs.own_negatives)
        count = self._shared.shape[-2]
        self._spans = [(start, min(start + columns, count)) for start in range(0, count, columns)]
        self._out = LeftOut(pairs)

    @cached_property
    def count(self) -> Int[Tensor, " b"]:  # type: ignore[override]  # made when an objective asks: most do not
        shared = self._out.offered()
        return shared if self._own is None else shared + own_negatives_offered(self._pairs).sum(dim=-1)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        tau = self._temperature.single()
        if tau is None:
            shared = self._in_checkpoints(scale)
        else:
            # In float64 first, as 0.1 is no number of float32 and its inverse is one.
            inverse = (scale / tau).to(self._query.device, self._query.dtype)
            shared = log_partition(self._pairs.query, self._pairs.negatives, inverse, self._out)
        if self._own is None:
            return shared
        _, logit = self._scores(self._query, self._own, own=True)
        own = _partition(logit, ~own_negatives_offered(self._pairs), scale)
        # Not logaddexp: its gradient is NaN where both are -inf.
        return torch.logsumexp(torch.stack([shared, own], dim=-1), dim=-1)

    def _in_checkpoints(self, scale: float) -> Tensor:
        def part(query: Tensor, rows: Tensor, start: int, stop: int) -> Tensor:
            _, logit = self._scores(query, rows, own=False)
            return _partition(logit, left_out(self._pairs, start, stop), scale)

        parts = [
            checkpoint(part, self._query, self._shared[..., start:stop, :], start, stop, use_reentrant=False)
            for start, stop in self._spans
        ]
        if not parts:
            return self._query.new_full(self._query.shape[:-1], -torch.inf)
        return torch.logsumexp(torch.stack(parts, dim=-1), dim=-1)

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        best = self._query.new_full(self._query.shape[:-1], -torch.inf)
        row = torch.zeros_like(self._query)
        for tile in self.tiles():
            value, place = tile.score.masked_fill(~tile.offered, -torch.inf).max(dim=-1)
            found = self._rows(tile, place)  # with gradient, though the search for them has none
            row = torch.where((value > best)[..., None], found, row)
            best = torch.maximum(best, value)
        score = (self._query * row).sum(dim=-1)
        logit = self._temperature(score, self._query, row)
        none = self.count == 0
        return score.masked_fill(none, -torch.inf), logit.masked_fill(none, -torch.inf)

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._temperature.of_score(self._query.new_tensor(score))

    def tiles(self) -> Iterator[Tile]:
        for start, stop in self._spans:
            with torch.no_grad():
                score, logit = self._scores(self._query, self._shared[..., start:stop, :], own=False)
                tile = Tile(score, logit, ~left_out(self._pairs, start, stop), own=False, start=start)
            yield tile
        if self._own is not None:
            with torch.no_grad():
                score, logit = self._scores(self._query, self._own, own=True)
            yield Tile(score, logit, own_negatives_offered(self._pairs), own=True, start=0)

    def _scores(self, query: Tensor, rows: Tensor, own: bool) -> tuple[Tensor, Tensor]:
        # Here, since tiles are made when they are asked for, and that may be under autocast.
        with torch.autocast(query.device.type, enabled=False):
            if own:
                score = torch.einsum("...bd,...bsd->...bs", query, rows)
                return score, self._temperature(score, query[..., :, None, :], rows)
            score = query @ rows.transpose(-1, -2)
            return score, self._temperature(score, query[..., :, None, :], rows[..., None, :, :])

    def _rows(self, tile: Tile, place: Int[Tensor, "*h b"]) -> Tensor:
        """The row that `place` names in this tile, for each query."""
        if tile.own and self._own is not None:
            chosen = place[..., None, None].expand(*place.shape, 1, self._own.shape[-1])
            return self._own.gather(-2, chosen).squeeze(-2)
        chosen = (place + tile.start)[..., None].expand(*place.shape, self._shared.shape[-1])
        return self._shared.gather(-2, chosen)


def _partition(logit: Tensor, out: Tensor, scale: float) -> Tensor:
    # Left out after the scale: 0 · -inf would be NaN.
    return torch.logsumexp((logit * scale).masked_fill(out, -torch.inf), dim=-1)
