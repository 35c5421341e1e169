"""Which rows of a bank a query meets as negatives of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["Hardest", "Mining", "Stratified"]

Search = Callable[[int], Tensor]
"""From a count to each query's nearest rows, best first, (b, count); -1 where there are no more."""


class Mining(ABC):
    """How rows are chosen for a query; own-sample rows never reach it through `search`.

    Attributes:
        count: rows a query.
    """

    count: int

    @abstractmethod
    def choose(
        self, search: Search, filled: int, index: Int[Tensor, " b"], seed: int, step: int
    ) -> Int[Tensor, "b {self.count}"]:
        """Rows for queries of the samples `index` in a bank of `filled` rows; -1 is no row."""


class Hardest(Mining):
    """The `count` nearest rows: the k hardest negatives.

    Args:
        count: k, rows a query.

    Raises:
        InputError: where count is below 1.
    """

    @checked
    def __init__(self, count: int = 1024) -> None:
        if count < 1:
            raise InputError(f"Hardest's count {count} leaves a query nothing: give at least 1")
        self.count = count

    def choose(self, search: Search, filled: int, index: Tensor, seed: int, step: int) -> Tensor:
        return search(self.count)

    def __repr__(self) -> str:
        return f"Hardest({self.count})"


class Stratified(Mining):
    """Hardest rows, semi-hard ones and random ones, in fixed numbers.

    Semi-hard rows are drawn without replacement from ranks `hardest` + 1 to `pool`; random rows from the whole bank
    with replacement, and may be among the others. Draws are functions of (seed, step, sample): both views of a sample
    draw the same ranks.

    Args:
        hardest: nearest rows.
        semi_hard: rows drawn from the ranks below those.
        random: rows drawn from all.
        pool: the last rank that a semi-hard row has.

    Raises:
        InputError: where a number is negative, all are 0, or the pool does not reach.
    """

    @checked
    def __init__(self, hardest: int = 256, semi_hard: int = 256, random: int = 512, pool: int = 4096) -> None:
        if min(hardest, semi_hard, random) < 0 or hardest + semi_hard + random < 1:
            raise InputError(
                f"Stratified's {hardest} hardest, {semi_hard} semi-hard and {random} random rows: give numbers from 0, "
                "one of them above it"
            )
        if semi_hard and pool < hardest + semi_hard:
            raise InputError(
                f"Stratified's pool {pool} is below its {hardest} hardest and {semi_hard} semi-hard rows: give at "
                f"least {hardest + semi_hard}"
            )
        self.count = hardest + semi_hard + random
        self.hardest, self.semi_hard, self.random, self.pool = hardest, semi_hard, random, pool

    def choose(self, search: Search, filled: int, index: Tensor, seed: int, step: int) -> Tensor:
        keys = (seed, step, Purpose.BANK_MINING)
        chosen = []
        if self.hardest + self.semi_hard:
            nearest = search(self.pool if self.semi_hard else self.hardest)
            chosen.append(nearest[:, : self.hardest])
            rest = nearest[:, self.hardest :]
            draws = uniform((*keys, 0), index, rest.shape[1]).masked_fill(rest < 0, torch.inf)
            chosen.append(rest.gather(1, draws.argsort(dim=1)[:, : self.semi_hard]))
        chosen.append((uniform((*keys, 1), index, self.random).double() * filled).long())
        return torch.cat(chosen, dim=1)

    def __repr__(self) -> str:
        drawn = f"hardest={self.hardest}, semi_hard={self.semi_hard}, random={self.random}, pool={self.pool}"
        return f"Stratified({drawn})"
