"""Format numbers as text; extract, smooth and thin series of numbers from recorded rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Series",
    "duration",
    "is_number",
    "number",
    "percent",
    "points",
    "rounded",
    "running_mean",
    "series_of",
    "short",
    "smoothing_window",
    "thin",
]


def is_number(value: Any) -> bool:
    """Whether a value read from JSON or YAML is a finite number; true and false are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def number(value: Any) -> float | None:
    """Convert a value to float if it is a finite number, else to None."""
    if type(value) is float:  # fast path: files have up to a million rows, and nearly all values are floats
        return value if -sys.float_info.max <= value <= sys.float_info.max else None
    return float(value) if is_number(value) else None


def rounded(value: float | None, digits: int = 6) -> float | None:
    """Round to `digits` significant digits: more are invisible in a figure and make the page larger."""
    return None if value is None else float(f"{value:.{digits}g}")


def percent(share: float) -> str:
    """Format a share in [0, 1] as a percentage.

    Example:
        >>> percent(0.9718)
        '97.2\\xa0%'
    """
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """Format a difference of two shares in percentage points, with its sign.

    Example:
        >>> points(0.0251)
        '+2.5'
    """
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def short(value: float) -> str:
    """Format a number: from 1,000 as an integer with thousands separators, below with four significant digits.

    Example:
        >>> short(20000), short(0.123456), short(3.0)
        ('20,000', '0.1235', '3')
    """
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Format a duration in seconds with at most two units.

    Example:
        >>> duration(59.6), duration(3900)
        ('1 min 0 s', '1 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


MOST_POINTS = 1200
"""Largest number of points of a line, besides its two ends."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Time series of one scalar.

    Attributes:
        x: positions, usually training steps.
        y: values. None where the run wrote null, which stands for NaN or infinity.
    """

    x: list[float]
    y: list[float | None]


def series_of(rows: Sequence[dict[str, Any]], key: str, x: str = "step") -> Series:
    """Extract the series of column `key` over column `x` from rows that have both."""
    found = Series([], [])
    for row in rows:
        if key in row and (place := number(row.get(x))) is not None:
            found.x.append(place)
            found.y.append(number(row[key]))
    return found


def smoothing_window(count: int) -> int:
    """Window of the moving average for a number of rows: about a fiftieth of the rows, odd, at least five."""
    return max(5, count // 50 // 2 * 2 + 1)


def running_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """Centred moving average in linear time, whatever the window's length.

    The values are cut into blocks as long as the window. Each window is the end of one block and the beginning of the
    next one, and the running sums of each block are computed once. No sum is subtracted from another, so a huge value
    leaves no rounding error in later windows.

    Args:
        values: the series. None is skipped.
        window: number of values per mean; an even number counts as the next odd one. Windows are shorter at both ends.

    Returns:
        One mean per value. None where the window has no finite value, or where its mean is not finite.

    Source: van Herk, 1992 (the block sums).

    Example:
        >>> running_mean([1.0, 2.0, 6.0, None], 3)
        [1.5, 3.0, 4.0, 6.0]
    """
    half = window // 2
    width = 2 * half + 1
    there = np.array([value is not None for value in values], dtype=np.float64)
    filled = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
    with np.errstate(all="ignore"):
        means = _window_sums(filled, width) / _window_sums(there, width)
    return [value if math.isfinite(value) else None for value in means.tolist()]


def _window_sums(values: Floats, width: int) -> Floats:
    """Sum of the `width` values centred at each value; values beyond the ends count as zero."""
    half, count = width // 2, len(values)
    blocks = -(-(count + 2 * half) // width)
    padded = np.zeros(blocks * width)
    padded[half : half + count] = values
    by_block = padded.reshape(blocks, width)
    from_start = by_block.cumsum(axis=1).ravel()
    to_end = by_block[:, ::-1].cumsum(axis=1)[:, ::-1].ravel()
    first = np.arange(count)
    sums: Floats = to_end[first] + np.where(first % width, from_start[first + width - 1], 0.0)
    return sums


def thin(values: Sequence[float | None], most: int = MOST_POINTS) -> list[int]:
    """Downsample a series for drawing and keep its spikes: the lowest and the highest value of each stretch.

    Args:
        values: the series. None is skipped; a stretch of None only keeps its first place.
        most: number of places to keep, besides the two ends.

    Returns:
        The places to draw, in order.
    """
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    stretches = most // 2
    for stretch in range(stretches):
        places = range(stretch * len(values) // stretches, (stretch + 1) * len(values) // stretches)
        finite = [(value, place) for place in places if (value := values[place]) is not None]
        kept.update((min(finite)[1], max(finite)[1]) if finite else (places[0],))
    return sorted(kept)
