"""Sums over numbers on the device they are on, asked for once: histograms with moments and quantiles, and means."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from contrast.distributed import world_size

__all__ = ["SHARES", "Average", "Histogram", "PerColumn", "added_up"]

SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Which quantiles are given."""
_SHARES = np.array(SHARES)
_FINE = 20
"""Fine bins in one that is shown: quantiles and areas are exact to a fine bin."""


def added_up(sums: Tensor) -> Tensor:
    """The sum over processes, on the CPU: what waits for the device."""
    if world_size() > 1:
        sums = sums.clone()
        torch.distributed.all_reduce(sums)
    return sums.cpu()


class Histogram:
    """Counts over equal bins of [low, high], and moments; what lies beyond counts in the end bin.

    Args:
        device: where the numbers are.
        bins: that are shown.
        low, high: the ends.
    """

    def __init__(self, device: torch.device, bins: int = 100, low: float = -1.0, high: float = 1.0) -> None:
        self.bins, self.low, self.high = bins, low, high
        self.counts = torch.zeros(bins * _FINE, dtype=torch.float64, device=device)
        self.moments = torch.zeros(3, dtype=torch.float64, device=device)  # count, sum, sum of squares

    def add(self, values: Tensor, weight: Tensor | None = None) -> None:
        """Add finite numbers, (n, t) or (n,), those of weight 1; the others have weight 0."""
        values = values.float() if values.dtype.itemsize < 4 else values
        fine = len(self.counts)
        # Clamped before the cast, which would send a huge number to the other end, and after it, for NaN.
        place = (
            (values - self.low).mul_(fine / (self.high - self.low)).clamp_(0, fine - 1).to(torch.int32).clamp_(min=0)
        )
        if weight is not None:
            place.add_(((1 - weight) * fine).to(torch.int32)).clamp_(max=fine)
        self.counts += torch.bincount(place.flatten(), minlength=fine + 1)[:fine]
        self.moments += _moments(values, weight)

    def added_up(self) -> Tensor:
        """Fine counts, then how many, sum and sum of squares, of all processes; waits for the device."""
        return added_up(torch.cat([self.counts, self.moments]))

    def row(self) -> dict[str, Any]:
        """Counts, mean, standard deviation and quantiles of all processes' numbers."""
        return self.described(self.added_up())

    def described(self, sums: Tensor) -> dict[str, Any]:
        """The same of sums that were already added up."""
        fine, (count, total, squares) = sums[:-3].numpy(), sums[-3:].tolist()
        mean = total / count if count else float("nan")
        variance = squares / count - mean**2 if count else float("nan")
        return {
            "counts": fine.reshape(self.bins, _FINE).sum(axis=1).astype(int).tolist(),
            "mean": mean,
            "std": max(variance, 0.0) ** 0.5,
            "quantiles": self._quantiles(fine),
        }

    def _quantiles(self, fine: npt.NDArray[np.float64]) -> list[float]:
        """Upper edges of the fine bins in which the shares are reached; NaN of nothing."""
        reached = fine.cumsum()
        if not reached[-1]:
            return [float("nan")] * len(SHARES)
        width = (self.high - self.low) / len(fine)
        places = reached.searchsorted(_SHARES * reached[-1])
        return [round(self.low + (place + 1) * width, 6) for place in places.tolist()]


def _moments(values: Tensor, weight: Tensor | None) -> Tensor:
    """How many, sum and sum of squares. Within the rows of a matrix in the numbers' own type, several times as fast as
    float64: about the row's mean, so that the spread of numbers that are nearly equal is not lost.
    """
    if values.ndim == 1:
        wide = values.double()
        weights = torch.ones_like(wide) if weight is None else weight.double()
        weighted = wide * weights
        return torch.stack([weights.sum(), weighted.sum(), weighted.dot(wide)])
    # With a mask in place of a weight most of this would take four times as long on a CPU.
    total = (values if weight is None else values * weight).sum(dim=-1, keepdim=True)
    many = torch.full_like(total, values.shape[-1]) if weight is None else weight.sum(dim=-1, keepdim=True)
    mean = total / many.clamp(min=1)
    about = values - mean
    if weight is not None:
        about.mul_(weight)
    squares = torch.linalg.vecdot(about, about).double()
    many, mean = many.squeeze(-1).double(), mean.squeeze(-1).double()
    whole = many * mean
    return torch.stack([many.sum(), whole.sum(), (squares + whole * mean).sum()])


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
        total, count = added_up(self.sums).tolist()
        return total / count if count else float("nan")


class PerColumn:
    """Means column by column, over all processes."""

    def __init__(self, device: torch.device, columns: int) -> None:
        self.sums = torch.zeros(2, columns, dtype=torch.float64, device=device)

    def add(self, values: Tensor, weight: Tensor) -> None:
        """Add rows of sums, (n, columns), and of how many numbers or weights are in each."""
        self.sums += torch.stack([values.double().sum(dim=0), weight.double().sum(dim=0)])

    def values(self) -> list[float]:
        """The means, up to the last column that has any weight."""
        total, weight = added_up(self.sums)
        some = int(weight.nonzero().max()) + 1 if bool(weight.any()) else 0
        means: list[float] = (total / weight)[:some].tolist()
        return means
