"""Sums over queries and processes, and sampling of queries for statistics.

Numbers per pair are summed on their device. Numbers per query are few, so they are summed as numpy arrays: device
kernel launches would cost more than the arithmetic.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.distributed import gather_detached, world_size
from contrast.pairs import Pairs
from contrast.randomness import Purpose, uniform

__all__ = ["SHARES", "Array", "Average", "Histogram", "PerColumn", "added_up", "array", "draws", "some_queries"]

Array = npt.NDArray[np.float64]

SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Quantiles that are recorded."""
_SHARES = np.array(SHARES)
_FINE = 20
"""Fine bins per displayed bin; quantiles and areas are exact to one fine bin."""


def added_up(sums: Tensor) -> Tensor:
    """Sum over processes (all-reduce), on the CPU; synchronises with the device."""
    if world_size() > 1:
        sums = sums.clone()
        torch.distributed.all_reduce(sums)
    return sums.cpu()


def array(values: Tensor) -> Array:
    """Convert per-query numbers to a float64 numpy array; synchronises with the device.

    bfloat16 goes through float32, because numpy has no bfloat16.
    """
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy().astype(np.float64)


class Histogram:
    """Histogram over equal bins of [low, high], with moments; values outside count in the first or last bin.

    Args:
        device: device of the numbers.
        bins: number of displayed bins.
        low, high: ends of the range.
    """

    def __init__(self, device: torch.device, bins: int = 100, low: float = -1.0, high: float = 1.0) -> None:
        self.bins, self.low, self.high, self.device = bins, low, high, device
        self._fine = bins * _FINE
        self._many: Tensor | None = None  # numbers per pair: counts of fine bins, then moments
        self._few = np.zeros(self._fine + 3)

    def add(self, values: Tensor, weight: Tensor | None = None) -> None:
        """Add numbers of pairs; they stay on their device.

        Args:
            values: finite numbers, (n, t).
            weight: 1 for numbers that count, else 0, (n, t); None counts all.
        """
        values = values.float() if values.dtype.itemsize < 4 else values
        # Clamp before the cast, because a huge number would overflow to the other end; and after it, for NaN.
        place = (values - self.low).mul_(self._fine / (self.high - self.low)).clamp_(0, self._fine - 1)
        if weight is not None:
            place.add_(1 - weight, alpha=self._fine)
        counts = torch.bincount(place.to(torch.int32).clamp_(0, self._fine).flatten(), minlength=self._fine + 1)
        sums = torch.cat([counts[: self._fine].double(), _moments(values, weight)])
        self._many = sums if self._many is None else self._many.add_(sums)

    def add_queries(self, values: Array, counted: npt.NDArray[np.bool_] | None = None) -> None:
        """Add numbers of queries.

        Args:
            values: numbers, (n,).
            counted: mask of the numbers that count, (n,); None counts all.
        """
        values = values if counted is None else values[counted]
        place = (values - self.low) * (self._fine / (self.high - self.low))
        place = np.fmax(np.fmin(place, self._fine - 1), 0)  # NaN goes to bin 0
        self._few[:-3] += np.bincount(place.astype(np.int64), minlength=self._fine)
        self._few[-3:] += np.array([len(values), values.sum(), values @ values])

    def added_up(self) -> Array:
        """Counts of fine bins, then number, sum and sum of squares, over all processes.

        This synchronises with the device.
        """
        few = torch.from_numpy(self._few).to(self.device)
        total: Array = added_up(few if self._many is None else few + self._many).numpy()
        return total

    def row(self) -> dict[str, Any]:
        """Counts, mean, standard deviation and quantiles over all processes."""
        return self.described(self.added_up())

    def recorded(self) -> dict[str, Any]:
        """The row with the ends of its bins as ``edges``, as an `Observer` records it; empty if nothing was added.

        This is a collective call: every process must make it.
        """
        sums = self.added_up()
        if not sums[-3]:
            return {}
        return {"edges": np.linspace(self.low, self.high, self.bins + 1).round(9).tolist(), **self.described(sums)}

    def described(self, sums: Array) -> dict[str, Any]:
        """Counts, mean, standard deviation and quantiles from the result of `added_up`."""
        fine, (count, total, squares) = sums[:-3], sums[-3:].tolist()
        mean = total / count if count else float("nan")
        variance = squares / count - mean**2 if count else float("nan")
        return {
            "counts": fine.reshape(self.bins, _FINE).sum(axis=1).astype(int).tolist(),
            "mean": mean,
            "std": max(variance, 0.0) ** 0.5,
            "quantiles": self._quantiles(fine),
        }

    def _quantiles(self, fine: npt.NDArray[np.float64]) -> list[float]:
        """Quantiles as upper edges of the fine bins in which they are reached; NaN for an empty histogram."""
        reached = fine.cumsum()
        if not reached[-1]:
            return [float("nan")] * len(SHARES)
        width = (self.high - self.low) / len(fine)
        places = reached.searchsorted(_SHARES * reached[-1])
        return [round(self.low + (place + 1) * width, 6) for place in places.tolist()]


def _moments(values: Tensor, weight: Tensor | None) -> Tensor:
    """Number, sum and sum of squares of a matrix, computed in the numbers' own dtype, several times as fast as float64.

    Squares are taken about each row's mean, so that the spread of nearly equal numbers is not lost to rounding.
    """
    # A boolean mask instead of a weight would make most of this four times slower on a CPU.
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


class PerColumn:
    """Column means of per-query numbers, over all processes.

    Args:
        device: device on which processes are all-reduced.
        columns: number of columns.
    """

    def __init__(self, device: torch.device, columns: int) -> None:
        self.device, self._sums = device, np.zeros((2, columns))

    def add(self, values: npt.NDArray[Any], weight: npt.NDArray[Any]) -> None:
        """Add rows of sums, (n, columns), with the number or weight of the summands of each."""
        self._sums += (values.sum(axis=0), weight.sum(axis=0))

    def means(self) -> list[float]:
        """Mean of each column; NaN where the weight is 0."""
        return self._means(self._added_up())

    def values(self) -> list[float]:
        """Means up to the last column with a weight above 0."""
        sums = self._added_up()
        some = sums[1].nonzero()[0]
        return self._means(sums[:, : some[-1] + 1]) if len(some) else []

    def _added_up(self) -> Array:
        total: Array = added_up(torch.from_numpy(self._sums).to(self.device)).numpy()
        return total

    @staticmethod
    def _means(sums: Array) -> list[float]:
        with np.errstate(invalid="ignore", divide="ignore"):
            means: list[float] = (sums[0] / sums[1]).tolist()
        return means


class Average:
    """Mean of per-query numbers, over all processes.

    Args:
        device: device on which processes are all-reduced.
    """

    def __init__(self, device: torch.device) -> None:
        self._means = PerColumn(device, 1)

    def add(self, values: npt.NDArray[Any], counted: npt.NDArray[np.bool_] | None = None) -> None:
        """Add numbers.

        Args:
            values: numbers, (n,).
            counted: mask of the numbers that count, (n,); None counts all.
        """
        self.add_sums(*((values, np.ones_like(values)) if counted is None else (values[counted], counted)))

    def add_sums(self, sums: npt.NDArray[Any], counts: npt.NDArray[Any]) -> None:
        """Add sums of numbers, and the number of summands of each."""
        self._means.add(sums.reshape(-1, 1), counts.reshape(-1, 1))

    def value(self) -> float:
        """The mean; NaN without numbers."""
        return self._means.means()[0]


_BY_QUERY = {  # axis of the queries, from the end
    "query": -2,
    "positive": -2,
    "index": -1,
    "view": -1,
    "excluded": -2,
    "own_negatives": -3,
    "own_negative_index": -2,
    "own_negative_parents": -3,
    "extra_positives": -3,
    "extra_positive_index": -2,
}


def some_queries(
    pairs: Pairs, most: int | None, together: bool = True, draw: Float[Tensor, " b"] | None = None
) -> Pairs:
    """Sample at most `most` queries of all processes; the choice depends only on their sample and view.

    Args:
        pairs: pairs of one direction.
        most: number of queries to keep; None keeps all.
        together: count the queries of all processes, in a collective call that every process must make. If False, count
            only this process's queries.
        draw: result of `draws` for these pairs, if already computed.
    """
    if most is None:
        return pairs
    draw = draws(pairs.index, pairs.view) if draw is None else draw
    everyone = gather_detached(draw) if together else draw
    if len(everyone) <= most:
        return pairs
    return _taken(pairs, (draw <= everyone.kthvalue(most).values).nonzero().flatten())


def draws(index: Int[Tensor, " b"], view: Int[Tensor, " b"] | None = None) -> Float[Tensor, " b"]:
    """Random number for each query, which depends only on its sample and view; the queries with the lowest are sampled.

    Args:
        index: sample of each query, (b,).
        view: view of each query, (b,); None means view 0.
    """
    both = uniform((Purpose.OBSERVED_ROWS,), index, 2).double()
    side = torch.zeros_like(index) if view is None else view
    return both.gather(1, side[:, None].clamp(max=1))[:, 0]


def _taken(pairs: Pairs, rows: Int[Tensor, " n"]) -> Pairs:
    fields = {name: getattr(pairs, name) for name in _BY_QUERY}
    kept = {name: each.index_select(_BY_QUERY[name], rows) for name, each in fields.items() if each is not None}
    return dataclasses.replace(pairs, **kept)
