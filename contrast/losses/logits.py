"""Logits of positives and negatives: log-sum-exp, hardest negative and tiles, without the score matrix."""

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

from contrast.errors import InputError
from contrast.losses.base import at_least_float32
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
    """Score and logit of each query with its positive.

    Attributes:
        score: (*h, b), before the temperature.
        logit: (*h, b), after the temperature.
        temperature: maps scores to logits. None if these logits have no temperature.
        rows: the query and the positive of each pair, (*h, b, d) each. None if there is no temperature.
    """

    score: Float[Tensor, "*h b"]
    logit: Float[Tensor, "*h b"]
    temperature: Temperature | None = None
    rows: tuple[Float[Tensor, "*h b d"], Float[Tensor, "*h b d"]] | None = None

    def at(self, score: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b"]:
        """Logit of another score of the same pair, such as ``positive.at(positive.score - 0.2)`` for a margin of 0.2.

        ``temperature(score, query, positive)``, with gradient to `score`, to the temperature's parameters, and to the
        rows if the temperature reads them.

        Args:
            score: the other score of each pair, before the temperature, (*h, b).

        Raises:
            InputError: for scores of another shape; for logits that were made without a temperature.
        """
        if self.temperature is None or self.rows is None:
            raise InputError(
                "PositiveLogits.at needs the temperature: make the logits by contrast.losses.positive_logits(pairs, "
                "temperature)"
            )
        if score.shape != self.score.shape:
            raise InputError(
                f"PositiveLogits.at got scores of shape {tuple(score.shape)}: give one for each positive, of shape "
                f"{tuple(self.score.shape)}"
            )
        logit: Tensor = self.temperature(score, *self.rows)
        return logit

    def as_functions_of(self, logit: Float[Tensor, "*h b"]) -> PositiveLogits:
        """The same positives as functions of their logits, for observers that differentiate an objective by the logit.

        The score keeps its value and gets the derivative ``ds/dl = 1/(dl/ds)``, so that the gradient includes a margin
        through `at`. Everything else is constant.

        Args:
            logit: the value of `logit`, with gradient, (*h, b).
        """
        score = self.score.detach().clone()
        if self.temperature is None or self.rows is None:
            return PositiveLogits(score, logit)
        query, positive = (each.detach().clone() for each in self.rows)  # clones of inference tensors are ordinary
        moved = score.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.temperature(moved, query, positive).sum(), moved)
        inverse = torch.where(slope == 0, 0.0, 1 / slope)
        return PositiveLogits(score + (logit - logit.detach()) * inverse, logit, self.temperature, (query, positive))


class Tile(NamedTuple):
    """A block of negatives for observers, without gradient.

    Attributes:
        score: (*h, b, t), before the temperature.
        logit: (*h, b, t), after the temperature.
        offered: (b, t), False where the column is excluded for the query.
        own: whether the columns are own negatives rather than shared negatives.
        start: position of the first column among the own or shared negatives.
    """

    score: Tensor
    logit: Tensor
    offered: Tensor
    own: bool
    start: int


class NegativeLogits(ABC):
    """Base class of the negatives' logits, as an objective sees them: without the score matrix.

    Attributes:
        count: the number of valid negatives of each query, (b,).
    """

    count: Int[Tensor, " b"]

    @abstractmethod
    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        """``log Σ_j exp(scale · logit_j)`` over the negatives of each query; -inf for a query without negatives."""

    @abstractmethod
    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        """Score and logit of each query's hardest negative, chosen by its score before the temperature."""

    @abstractmethod
    def logit_of(self, score: float) -> Float[Tensor, ""]:
        """Logit of a given score; gradient flows to a learned temperature."""

    @abstractmethod
    def tiles(self) -> Iterator[Tile]:
        """Iterate over blocks of the negatives, without gradient, for observers."""


class DenseNegatives(NegativeLogits):
    """Negatives with the whole (b, k + s) score matrix in memory; exact, and faster for small matrices."""

    def __init__(self, pairs: Pairs, temperature: Temperature) -> None:
        query, shared = at_least_float32(pairs.query), at_least_float32(pairs.negatives)
        score = query @ shared.transpose(-1, -2)
        logit = temperature(score, query[..., :, None, :], shared[..., None, :, :])
        offered = ~left_out(pairs, 0, shared.shape[-2])
        self._shared = shared.shape[-2]
        if pairs.own_negatives is not None:
            own = at_least_float32(pairs.own_negatives)
            own_score = torch.einsum("...bd,...bsd->...bs", query, own)
            own_logit = temperature(own_score, query[..., :, None, :], own)
            own_offered = own_negatives_offered(pairs)
            score, logit = torch.cat([score, own_score], dim=-1), torch.cat([logit, own_logit], dim=-1)
            offered = torch.cat([offered, own_offered], dim=-1)
        self._score, self._logit, self._offered, self._temperature = score, logit, offered, temperature
        self.count = offered.sum(dim=-1)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        # Mask after scaling: 0 · -inf would be NaN.
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
    query, positive = at_least_float32(pairs.query), at_least_float32(pairs.positive)
    score = (query * positive).sum(dim=-1)
    return PositiveLogits(score, temperature(score, query, positive), temperature, (query, positive))


def own_negatives_offered(pairs: Pairs) -> Bool[Tensor, "b s"]:
    """Mask of the valid own negatives of each query: not padding, and not of the query's own sample."""
    index = pairs.own_negative_index
    if index is None:
        return pairs.index.new_zeros((len(pairs.index), 0), dtype=torch.bool)
    unknown = index == UNKNOWN  # an unknown index equals nothing, not even an unknown index of a query
    return (index != NOT_OFFERED) & (unknown | (index != pairs.index[:, None]))


_DENSE = 1 << 26
"""Largest dense matrix if temperatures differ by pair, in scores (heads · queries · negatives): 256 MiB in float32."""
_LOOKED_AT = 1 << 22
"""Largest dense matrix with a single temperature under no_grad: observers need both the sums and the tiles."""
_TILE = 1 << 24
"""Number of scores in one tile."""


def negative_logits(pairs: Pairs, temperature: Temperature) -> NegativeLogits:
    """Dense or tiled logits of the negatives; both give the same numbers.

    Small matrices are dense. With a single temperature and gradient, the logits are always tiled, because
    `log_partition` needs no matrix.
    """
    rows = pairs.query.shape[:-1].numel()
    several = temperature.single() is None
    most = _DENSE if several else 0 if torch.is_grad_enabled() else _LOOKED_AT
    if rows * pairs.negatives.shape[-2] <= most:
        return DenseNegatives(pairs, temperature)
    return TiledNegatives(pairs, temperature, columns=max(1, _TILE // max(1, rows)))


class TiledNegatives(NegativeLogits):
    """Negatives whose scores are computed block by block in forward and again in backward.

    Memory holds one block. The gradients of query, negatives and temperature equal those of `DenseNegatives`. If all
    pairs share one temperature, `log_partition` computes the sum. Otherwise autograd's checkpointing recomputes each
    tile in backward. Own negatives are not tiled, because their rows are in memory anyway.

    Args:
        pairs: pairs after the transforms.
        temperature: maps scores to logits.
        columns: number of shared negatives in a tile, for observers and for temperatures that differ by pair.
    """

    def __init__(self, pairs: Pairs, temperature: Temperature, columns: int) -> None:
        self._pairs, self._temperature = pairs, temperature
        self._query, self._shared = at_least_float32(pairs.query), at_least_float32(pairs.negatives)
        self._own = None if pairs.own_negatives is None else at_least_float32(pairs.own_negatives)
        count = self._shared.shape[-2]
        self._spans = [(start, min(start + columns, count)) for start in range(0, count, columns)]
        self._out = LeftOut(pairs)

    @cached_property
    def count(self) -> Int[Tensor, " b"]:  # type: ignore[override]  # computed on request: most objectives do not ask
        shared = self._out.offered()
        return shared if self._own is None else shared + own_negatives_offered(self._pairs).sum(dim=-1)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        tau = self._temperature.single()
        if tau is None:
            shared = self._in_checkpoints(scale)
        else:
            # Divide in float64 first: 0.1 is not exact in float32, but its inverse 10 is.
            inverse = (scale / tau).to(self._query.device, self._query.dtype)
            shared = log_partition(self._pairs.query, self._pairs.negatives, inverse, self._out)
        if self._own is None:
            return shared
        _, logit = self._scores(self._query, self._own, own=True)
        own = _partition(logit, ~own_negatives_offered(self._pairs), scale)
        # Not logaddexp: its gradient is NaN if both arguments are -inf.
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
            found = self._rows(tile, place)  # the rows carry gradient, although the search does not
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
        # Autocast is switched off here, because tiles are computed on request, possibly under autocast.
        with torch.autocast(query.device.type, enabled=False):
            if own:
                score = torch.einsum("...bd,...bsd->...bs", query, rows)
                return score, self._temperature(score, query[..., :, None, :], rows)
            score = query @ rows.transpose(-1, -2)
            return score, self._temperature(score, query[..., :, None, :], rows[..., None, :, :])

    def _rows(self, tile: Tile, place: Int[Tensor, "*h b"]) -> Tensor:
        """The row at position `place` of this tile, for each query."""
        if tile.own and self._own is not None:
            chosen = place[..., None, None].expand(*place.shape, 1, self._own.shape[-1])
            return self._own.gather(-2, chosen).squeeze(-2)
        chosen = (place + tile.start)[..., None].expand(*place.shape, self._shared.shape[-1])
        return self._shared.gather(-2, chosen)


def _partition(logit: Tensor, out: Tensor, scale: float) -> Tensor:
    # Mask after scaling: 0 · -inf would be NaN.
    return torch.logsumexp((logit * scale).masked_fill(out, -torch.inf), dim=-1)
