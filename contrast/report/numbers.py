"""Numbers out of files, which may hold null and NaN, and numbers as a reader likes them."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["duration", "is_number", "number", "percent", "points", "rounded", "short"]


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
