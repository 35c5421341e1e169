"""What a figure is to the page: charts by the library, their data once, and words that say what to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Chart", "Figure", "Missing", "Table"]

Table = dict[str, list[Any]]
"""Columns of equal length by their names; as JSON a good deal smaller than rows."""


@dataclass(frozen=True)
class Chart:
    """One drawing.

    Args:
        name: unique within the figure.
        spec: Vega-Lite; its data by name, its colours as ``theme:NAME``, so that light and dark share it.
        label: stands above the chart where a figure has several; may be empty.
    """

    name: str
    spec: dict[str, Any]
    label: str = ""


@dataclass(frozen=True)
class Figure:
    """A titled group of charts.

    Args:
        name: unique within the page; anchors, file names of downloads and tests go by it.
        title: what the figure shows.
        reading: how to read it, in one or two sentences.
        charts: drawn side by side where there is room.
        tables: the data, by the names that the charts use; the first is what the CSV button gives.
        notes: what is thinned or left out.
        template: the figure's HTML.
        extra: what the template and the figure's own script need beyond tables.
        words: what the template alone needs.
    """

    name: str
    title: str
    reading: str
    charts: tuple[Chart, ...]
    tables: dict[str, Table] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    template: str = "figure.html"
    extra: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """Stands where a figure has no data yet, and says what would bring it."""

    name: str
    title: str
    reason: str
