"""Negatives by their hardness rank: the hardest of each query, kept over tiles, and the rest as one group."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from contrast.observation.sums import Array, array

__all__ = ["RANK_ENDS", "Ranked", "RankedNumbers"]

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
