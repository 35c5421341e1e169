"""A curve as small as a word, drawn without a script."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

__all__ = ["means", "sparkline"]

WIDTH, HEIGHT, MARGIN = 132, 34, 4
MOST_POINTS = 60


def means(values: Sequence[float], most: int = MOST_POINTS) -> list[float]:
    """At most so many means of stretches of equal length, which smooth as they thin.

    Example:
        >>> means([1.0, 3.0, 5.0, 7.0], most=2)
        [2.0, 6.0]
    """
    count = min(most, len(values))
    ends = [place * len(values) // count for place in range(count + 1)] if count else []
    stretches = [values[begin:end] for begin, end in pairwise(ends)]
    return [sum(stretch) / len(stretch) for stretch in stretches]


def sparkline(values: Sequence[float], label: str, least: float = 0.0) -> Markup:
    """An SVG of one line from left to right with a dot at its end; nothing where there are no values.

    Args:
        values: from left to right.
        label: for who does not see it.
        least: span of values that the height stands for at least, so that noise is no slope.
    """
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low))
    low, high = low - missing / 2, high + missing / 2
    across = (WIDTH - 2 * MARGIN) / max(1, len(values) - 1)
    up = (HEIGHT - 2 * MARGIN) / (high - low) if high > low else 0.0
    places = [
        (MARGIN + across * place, HEIGHT - MARGIN - up * (value - low) if up else HEIGHT / 2)
        for place, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        '<polyline points="{}" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linejoin="round" '
        'stroke-linecap="round"/><circle cx="{:.1f}" cy="{:.1f}" r="2.4" fill="currentColor"/></svg>'
    ).format(WIDTH, HEIGHT, WIDTH, HEIGHT, label, line, *places[-1])
