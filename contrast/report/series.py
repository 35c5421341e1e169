"""Scalars over training: taken from the rows, smoothed, and thinned to what a figure can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contrast.report.numbers import number

__all__ = ["Series", "running_mean", "series_of", "smoothing_window", "thin"]

MOST_POINTS = 1200


@dataclass(frozen=True)
class Series:
    """One scalar over training; a value is None where the run wrote null, that is NaN or infinity."""

    x: list[float]
    y: list[float | None]


def series_of(rows: Sequence[dict[str, Any]], key: str, x: str = "step") -> Series:
    """The rows that have `key`, by `x`."""
    points = [(place, number(row[key])) for row in rows if key in row and (place := number(row.get(x))) is not None]
    return Series([place for place, _ in points], [value for _, value in points])


def smoothing_window(count: int) -> int:
    """How many rows a smoothed point is the mean of: about one in fifty, odd, at least five."""
    return max(5, count // 50 // 2 * 2 + 1)


def running_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """The mean of the `window` values centred at each; fewer at the ends, None counts for nothing.

    Example:
        >>> running_mean([1.0, 2.0, 6.0, None], 3)
        [1.5, 3.0, 4.0, 6.0]
    """
    half = window // 2
    smoothed: list[float | None] = []
    for centre in range(len(values)):
        near = [value for value in values[max(0, centre - half) : centre + half + 1] if value is not None]
        smoothed.append(sum(near) / len(near) if near else None)
    return smoothed


def thin(values: Sequence[float | None], most: int = MOST_POINTS) -> list[int]:
    """Which places to draw, `most` and the two ends: the lowest and highest of every stretch, so that spikes stay."""
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    stretches = most // 2
    for stretch in range(stretches):
        places = range(stretch * len(values) // stretches, (stretch + 1) * len(values) // stretches)
        finite = [(value, place) for place in places if (value := values[place]) is not None]
        kept.update((min(finite)[1], max(finite)[1]) if finite else (places[0],))
    return sorted(kept)
