"""Negatives by their hardness rank: the hardest of each query, kept over tiles, and the rest as one group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["RANK_ENDS", "Ranked"]

RANK_ENDS = tuple(2**power for power in range(8))
"""The last rank of each group, 1 the hardest; one more group holds all further ranks."""


def _groups(ranks: int, like: Tensor) -> Float[Tensor, "r g"]:
    """1 where a rank is in a group: one product in place of a sum for each."""
    of = torch.arange(ranks, device=like.device)[:, None] < torch.tensor(RANK_ENDS, device=like.device)
    return (of.to(like.dtype)).diff(dim=1, prepend=like.new_zeros(ranks, 1))


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

    def by_group(self) -> Float[Tensor, "m n g"]:
        """How many negatives of each query are in each rank group, the sum of their scores, and of each number."""
        assert self.score is not None
        assert self.totals is not None
        there = ~self.score.isneginf()
        every = torch.stack([there.to(self.score.dtype), self.score.masked_fill(~there, 0.0), *self.numbers])
        kept = every @ _groups(every.shape[-1], every)
        rest = self.totals - kept.sum(dim=-1)
        # What is left of a sum by subtraction is rounding where every negative was kept.
        rest = rest.masked_fill((rest[0] < 0.5)[None], 0.0)
        return torch.cat([kept, rest[..., None]], dim=-1)
