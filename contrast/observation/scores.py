"""Score statistics: histograms of positives and negatives, their separation, and the accuracy of the pretext task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from contrast.losses import Loss, LossOutput
from contrast.observation.blocks import KINDS, Block
from contrast.observation.observer import ObservedOutput, Observer, floats_at
from contrast.observation.sums import Array, Average, Histogram, array
from contrast.pairs import Pairs

__all__ = ["BINS", "PretextAccuracy", "Scores", "separation"]


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


_LOGGED = {
    "scores/auc": ("separation", "auc"),
    "scores/d_prime": ("separation", "d_prime"),
    "scores/overlap": ("separation", "overlap"),
}


class Scores(Observer):
    """Observer of scores: one histogram per kind of pair, over queries of all directions and processes.

    Args:
        device: device of the pairs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kinds: dict[str, Histogram] = {}

    def add_negatives(self, pairs: Pairs, block: Block) -> None:
        self._of(block.kind).add(block.score, block.weight)
        if block.same is not None:
            self._of("same_class").add(block.score[block.same == 1][None])  # few: indexing beats a mask

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for score in output.positive:
            self._of("positive").add_queries(array(score.flatten()))
        for seen in output.negatives:
            if seen.kinds:
                hardest = seen.ranked.score[:, :_HARDEST].flatten()
                self._of("hardest").add_queries(hardest, ~np.isneginf(hardest))

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

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        return floats_at(row, _LOGGED)

    def _of(self, kind: str) -> Histogram:
        return self._kinds.setdefault(kind, Histogram(self._device, BINS))


class PretextAccuracy(Observer):
    """Observer of the pretext accuracy: share of queries whose positive has a higher score than all negatives.

    Its numbers are in ``metrics.jsonl`` only: `proxy/accuracy`, and where there are mixes
    `proxy/accuracy_without_mixes`, which compares with real rows only.

    Args:
        device: device of the pairs.
    """

    def __init__(self, device: torch.device) -> None:
        self._all, self._real = Average(device), Average(device)
        self._negatives = self._mixes = False

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for seen in output.negatives:
            if not seen.kinds:
                continue
            self._negatives = True
            self._mixes |= bool({"pair_mix", "query_mix"} & seen.kinds)
            real, mixed = seen.hardest
            some = seen.negatives > 0
            self._all.add(seen.score > np.maximum(real, mixed), some)
            self._real.add(seen.score > real, some)

    def row(self) -> dict[str, Any]:
        return {}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = {"proxy/accuracy": self._all.value()} if self._negatives else {}
        if self._mixes:
            found["proxy/accuracy_without_mixes"] = self._real.value()
        return {name: value for name, value in found.items() if not math.isnan(value)}
