"""Sums over scores on the device, asked for once: histograms with their moments, and shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrast.distributed import world_size

__all__ = ["BINS", "Average", "ScoreSums"]

BINS = 100
"""Bins of width 0.02 over [-1, 1]; a score beyond counts in the end bin."""


class ScoreSums:
    """Histogram, sum and sum of squares of scores, added up tile by tile on the device they are on."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64, device=device)
        self.moments = torch.zeros(3, dtype=torch.float64, device=device)  # count, sum, sum of squares

    def add(self, score: Tensor, offered: Tensor | None = None) -> None:
        """Add scores, (*h, b, t) or (*h, b), those that `offered` (b, t) keeps."""
        kept = torch.ones_like(score) if offered is None else offered.to(score.dtype).expand_as(score)
        # Clamped before the cast, which would send a huge score to the other end; NaN clamps to nothing.
        place = ((score + 1) * (BINS / 2)).nan_to_num(0.0).clamp(0, BINS - 1).long()
        self.counts.scatter_add_(0, place.flatten(), kept.flatten().double())
        values = score.double()
        weight = kept.double()
        # A score that is left out may be anything, so it is replaced, not multiplied by zero.
        values = torch.where(weight > 0, values, torch.zeros_like(values))
        self.moments += torch.stack([weight.sum(), values.sum(), values.square().sum()])

    def row(self) -> dict[str, Any]:
        """Counts, mean and standard deviation over all processes: the one place that waits for the device."""
        packed = torch.cat([self.counts, self.moments])
        if world_size() > 1:
            torch.distributed.all_reduce(packed)
        *counts, count, total, squares = packed.tolist()
        mean = total / count if count else float("nan")
        variance = squares / count - mean**2 if count else float("nan")
        return {"counts": [int(each) for each in counts], "mean": mean, "std": max(variance, 0.0) ** 0.5}


class Average:
    """The mean of numbers that come batch by batch, over all processes."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # total, count

    def add(self, values: Tensor, counted: Tensor | None = None) -> None:
        """Add numbers, those that `counted` keeps; it broadcasts to their shape."""
        kept = torch.ones_like(values, dtype=torch.bool) if counted is None else counted.expand_as(values)
        chosen = torch.where(kept, values.double(), 0.0)
        self.sums += torch.stack([chosen.sum(), kept.double().sum()])

    def value(self) -> float:
        """The mean; NaN of nothing. Waits for the device."""
        sums = self.sums.clone()
        if world_size() > 1:
            torch.distributed.all_reduce(sums)
        total, count = sums.tolist()
        return total / count if count else float("nan")
