"""Numbers in words, and series of numbers from rows."""

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
    """Whether a value out of JSON or YAML is a finite number (true and false are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def number(value: Any) -> float | None:
    """The value where it is a finite number, else None."""
    if type(value) is float:  # nearly all, in files of a million rows
        return value if -sys.float_info.max <= value <= sys.float_info.max else None
    return float(value) if is_number(value) else None


def rounded(value: float | None, digits: int = 6) -> float | None:
    """To `digits` significant digits: more are invisible in a figure and make the page heavy."""
    return None if value is None else float(f"{value:.{digits}g}")


def percent(share: float) -> str:
    """A share in [0, 1] in per cent.

    Example:
        >>> percent(0.9718)
        '97.2\\xa0%'
    """
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """A difference of two shares in points, with its sign.

    Example:
        >>> points(0.0251)
        '+2.5'
    """
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def short(value: float) -> str:
    """Thousands apart for counts, four significant digits for the rest.

    Example:
        >>> short(20000), short(0.123456), short(3.0)
        ('20,000', '0.1235', '3')
    """
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Two units at most.

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
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One scalar over training; a value is None where the run wrote null, that is NaN or infinity."""

    x: list[float]
    y: list[float | None]


def series_of(rows: Sequence[dict[str, Any]], key: str, x: str = "step") -> Series:
    """The rows that have `key`, by `x`."""
    found = Series([], [])
    for row in rows:
        if key in row and (place := number(row.get(x))) is not None:
            found.x.append(place)
            found.y.append(number(row[key]))
    return found


def smoothing_window(count: int) -> int:
    """How many rows a smoothed point is the mean of: about one in fifty, odd, at least five."""
    return max(5, count // 50 // 2 * 2 + 1)


def running_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """Centred moving average over a window, in time linear in the number of values and independent of the window.

    A window is the end of one block and the beginning of the next one, whose running sums are made once (van Herk,
    1992). Nothing is subtracted, so a huge value leaves no rounding error in the windows behind it.

    Args:
        values: None counts for nothing.
        window: values in a mean; fewer at the ends.

    Returns:
        As many means; None where the window has no finite value, or its mean is not finite.

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
    """The sum of the `width` values centred at each value, zeros beyond the ends."""
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
