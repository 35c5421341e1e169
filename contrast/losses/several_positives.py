"""A query's loss where it has further positives."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.losses.logits import NegativeLogits, PositiveLogits, Tile, positive_logits
from contrast.losses.objectives import Objective
from contrast.losses.temperature import Temperature
from contrast.losses.wide import wide
from contrast.pairs import NOT_OFFERED, Pairs

__all__ = ["mean_over_positives"]


def mean_over_positives(
    objective: Objective, temperature: Temperature, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits
) -> Float[Tensor, "*h b"]:
    """``1/(1 + p) Σ_j objective(l⁺_j, negatives)`` over the positive and the p further ones of each query.

    Where an objective compares queries, as DCLW does, a query that has no j-th positive stands there with its own.
    """
    kept = _Kept(negatives)
    total = objective(positive, kept)
    extra, index = pairs.extra_positives, pairs.extra_positive_index
    assert extra is not None
    assert index is not None
    present = index != NOT_OFFERED
    for place in range(index.shape[1]):
        here = present[:, place]
        rows = torch.where(here[:, None], wide(extra[..., place, :]), wide(pairs.positive))
        of_row = positive_logits(dataclasses.replace(pairs, positive=rows), temperature)
        total = total + objective(of_row, kept).masked_fill(~here, 0.0)
    mean: Tensor = total / (1 + present.sum(dim=1))
    return mean


class _Kept(NegativeLogits):
    """Negatives that answer a question once: every positive of a query meets the same ones."""

    def __init__(self, negatives: NegativeLogits) -> None:
        self._negatives, self.count = negatives, negatives.count
        self._sums: dict[float, Tensor] = {}
        self._hardest: tuple[Tensor, Tensor] | None = None

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        if scale not in self._sums:
            self._sums[scale] = self._negatives.logsumexp(scale)
        return self._sums[scale]

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        if self._hardest is None:
            self._hardest = self._negatives.hardest()
        return self._hardest

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._negatives.logit_of(score)

    def tiles(self) -> Iterator[Tile]:
        return self._negatives.tiles()
