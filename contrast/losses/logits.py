"""What an objective sees: each query's positive logit, and the negatives behind a few questions it may ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.losses.left_out import left_out
from contrast.losses.temperature import Temperature
from contrast.losses.wide import wide
from contrast.pairs import NOT_OFFERED, UNKNOWN, Pairs

__all__ = [
    "DenseNegatives",
    "NegativeLogits",
    "PositiveLogits",
    "Tile",
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
