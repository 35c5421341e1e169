"""Score statistics: histograms of positives and negatives, and their separation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrast.observation.blocks import KINDS, Block
from contrast.observation.negatives import PerQuery
from contrast.observation.sums import Array, Histogram, array

__all__ = ["BINS", "Scores", "separation"]


def separation(positive: Array, negative: Array, shown: int) -> dict[str, Any]:
    """Separation of positive and negative scores: overlap, d′ and AUC.

    - overlap: ``Σ_i min(p_i, n_i)`` over the displayed bins.
    - ``d′ = (μ₊ - μ₋) / √((σ₊² + σ₋²) / 2)``.
    - AUC: ``P(s₊ > s₋) + P(s₊ = s₋) / 2`` over all pairs of a positive and a negative; scores in one fine bin count as
      equal.

    Args:
        positive, negative: counts of the fine bins, then number, sum and sum of squares, as from `Histogram.added_up`.
        shown: number of displayed bins.

    Returns:
        Mapping with `overlap`, `d_prime` and `auc`; empty where there are no positives or no negatives.
    """
    fine = [each[:-3] for each in (positive, negative)]
    if not all(each.any() for each in fine):
        return {}
    p, n = (each / each.sum() for each in fine)
    below = n.cumsum() - n
    moments = [_moments(each[-3:]) for each in (positive, negative)]
    (mean, variance), (other, spread) = moments
    scale = math.sqrt((variance + spread) / 2)
    return {
        "overlap": float(np.minimum(p.reshape(shown, -1).sum(axis=1), n.reshape(shown, -1).sum(axis=1)).sum()),
        "d_prime": (mean - other) / scale if scale else float("nan"),
        "auc": float((p * (below + n / 2)).sum()),
    }


def _moments(sums: Array) -> tuple[float, float]:
    count, total, squares = sums.tolist()
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0)


BINS = 100
_HARDEST = 10  # negatives per query in the histogram `hardest`
_SUMS = {
    "negative": ("shared", *KINDS.values()),
    "own": tuple(KINDS.values()),
    "synthetic": ("pair_mix", "query_mix"),
}
"""Histograms that are sums of other histograms."""


class Scores:
    """Score histograms over queries of all directions and processes.

    Args:
        device: device of the pairs.

    Attributes:
        margin: histogram of the positive's score minus the hardest negative's score.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kinds: dict[str, Histogram] = {}
        self.margin = Histogram(device, BINS, -2.0, 2.0)

    def add_positives(self, score: Tensor) -> None:
        """Add the score of each query's positive."""
        self._of("positive").add_queries(array(score.flatten()))

    def add_block(self, block: Block) -> None:
        """Add a block of negatives."""
        self._of(block.kind).add(block.score, block.weight)
        if block.same is not None:
            self._of("same_class").add(block.score[block.same == 1][None])  # few: indexing beats a mask

    def add_hardest(self, positive: Array, seen: PerQuery) -> None:
        """Add the hardest negatives of each query, and the margin of its positive over the hardest.

        Args:
            positive: score of each query's positive, (n,).
            seen: sums over each query's negatives.
        """
        hardest = seen.ranked.score[:, :_HARDEST].flatten()
        self._of("hardest").add_queries(hardest, ~np.isneginf(hardest))
        some = seen.negatives > 0
        self.margin.add_queries((positive - np.maximum(*seen.hardest))[some])

    def row(self) -> dict[str, Any]:
        """All non-empty histograms, and `separation`."""
        sums = {name: each.added_up() for name, each in self._kinds.items()}
        for name, parts in _SUMS.items():
            there = [sums[part] for part in parts if part in sums]
            if there:
                sums[name] = np.sum(there, axis=0)
        described = Histogram(torch.device("cpu"), BINS)
        shown = {name: described.described(each) for name, each in sums.items() if name != "shared" and each[-3] > 0}
        apart = separation(sums["positive"], sums["negative"], BINS) if "negative" in sums else {}
        return {**shown, **({"separation": apart} if apart else {})}

    def _of(self, kind: str) -> Histogram:
        return self._kinds.setdefault(kind, Histogram(self._device, BINS))
