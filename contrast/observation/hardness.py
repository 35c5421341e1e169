"""Negatives by hardness rank: their scores, the gradient's share that falls on them, and how many are false."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from contrast.observation.negatives import PerQuery, positive
from contrast.observation.ranks import RANK_ENDS
from contrast.observation.same_class import chance
from contrast.observation.sums import Array, Average, PerColumn

__all__ = ["Hardness"]

_SCORE, _GRADIENT = 1, 2  # places among a ranked negative's sums; the first is how many there are


class Hardness:
    """Sums over queries, of all directions and processes.

    Args:
        device: where the queries are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._score, self._gradient = self._by_group(), self._by_group()
        self._false: dict[str, PerColumn] = {}
        self._rates: dict[str, Average] = {}
        self._denominator, self._chance = Average(device), Average(device)

    def add(self, seen: PerQuery) -> None:
        """Add queries."""
        groups = seen.ranked.by_group()
        self._score.add(groups[_SCORE], groups[0])
        some = seen.total > 0
        self._gradient.add(groups[_GRADIENT][some] / seen.total[some, None], np.ones((some.sum(), groups.shape[-1])))
        if seen.denominator is not None:
            self._add_false("all", groups)
            for name, ranked in seen.sources.items():
                self._add_false(name, groups if ranked is seen.ranked else ranked.by_group())
            self._denominator.add(seen.denominator, seen.negatives > 0)

    def add_chance(self, labels: Int[Tensor, " n"], index: Int[Tensor, " b"]) -> None:
        """Add what random samples would be to these queries, by one's labels."""
        share, known = chance(labels, index)
        self._chance.add(share.cpu().numpy(), known.cpu().numpy())

    def row(self) -> dict[str, Any]:
        """`hardness` and, with labels, `false_negatives`, as a row has them."""
        score = self._score.values()
        hardness: dict[str, Any] = {"score": score, "gradient": self._gradient.values()[: len(score)]}
        same = {name: sums.values() for name, sums in self._false.items()}
        rates = {name: rate.value() for name, rate in self._rates.items()}
        if not same.get("all"):  # no labels, or none known yet, as of a queue's random start
            return {"hardness": hardness}
        hardness["same_class"] = same
        rates |= {"random": self._chance.value(), "denominator": self._denominator.value()}
        return {"hardness": hardness, "false_negatives": rates}

    def _add_false(self, name: str, groups: Array) -> None:
        same, told = groups[-2], groups[-1]
        self._false.setdefault(name, self._by_group()).add(same, told)
        self._rates.setdefault(name, Average(self._device)).add_sums(same, told)

    def _by_group(self) -> PerColumn:
        return PerColumn(self._device, len(RANK_ENDS) + 1)


def top_shares(seen: PerQuery, most: Sequence[int]) -> list[Array]:
    """Of each query, the shares of its gradient on so many negatives that have most of it."""
    size = seen.ranked.numbers[0]
    size = size if seen.by_gradient else -np.sort(-size, axis=1)
    return [size[:, :each].sum(axis=1) / positive(seen.total) for each in most]
