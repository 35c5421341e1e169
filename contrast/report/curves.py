"""Curves over steps, one a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from contrast.report.chart_kinds import Kind, band_chart, kinds_chart
from contrast.report.charts import Axis, Chart, Table, axis_within
from contrast.report.numbers import number, rounded, thin
from contrast.report.run_record import RunRecord

__all__ = [
    "MOST_ROWS",
    "RANK_AXIS",
    "STEP",
    "Band",
    "Course",
    "Line",
    "curve",
    "extend",
    "has_lone_point",
    "numbers_at",
    "per_negative",
    "rank_labels",
    "settled",
    "sizes_of_groups",
    "some_of",
    "value_at",
]

MOST_ROWS = 240
RANK_AXIS = "hardness rank of the negative (1 is the hardest)"
_SETTLED = 10  # the last tenth of a run's rows


def value_at(row: dict[str, Any], *path: str) -> Any:
    """What stands at a path of a row, places of lists as text; or None."""
    value: Any = row
    for name in path:
        if isinstance(value, list):
            value = value[int(name)] if name.isdigit() and int(name) < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def numbers_at(row: dict[str, Any], *path: str) -> list[float | None]:
    """A list of numbers at a path; empty where there is none."""
    values = value_at(row, *path)
    return [number(value) for value in values] if isinstance(values, list) else []


def some_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most as many as can be told apart, evenly spread, the first and the last among them."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (MOST_ROWS - 1))] for place in range(MOST_ROWS)]


def curve(rows: Sequence[dict[str, Any]], *path: str, share: int | None = None) -> list[tuple[int, float]]:
    """Steps and finite numbers at a path; of a list there, its number `share`.

    Of more than `MOST_ROWS` rows some are left out, never the lowest and the highest of a stretch.
    """
    points = []
    for row in [row for row in rows if path[0] in row]:  # many rows of a million have none
        if share is None:
            value = number(value_at(row, *path))
        else:
            values = numbers_at(row, *path)
            value = values[share] if len(values) > share else None
        if value is not None:
            points.append((int(row["step"]), value))
    return [points[place] for place in thin([value for _, value in points], MOST_ROWS)]


def settled(rows: Sequence[dict[str, Any]], *path: str) -> list[float | None]:
    """Means, place by place, of the lists at a path in the last tenth of the rows: one row's are of few queries."""
    lists = [values for row in rows[-max(1, len(rows) // _SETTLED) :] if (values := numbers_at(row, *path))]
    means: list[float | None] = []
    for place in range(max(map(len, lists), default=0)):
        there = [value for values in lists if len(values) > place and (value := values[place]) is not None]
        means.append(rounded(sum(there) / len(there)) if there else None)
    return means


def rank_labels(header: dict[str, Any]) -> list[str]:
    """ "1", "2", "3–4", … and ">128" for all further ranks.

    Example:
        >>> rank_labels({"rank_ends": [1, 2, 4]})
        ['1', '2', '3–4', '>4']
    """
    ends = [int(end) for end in numbers_at(header, "rank_ends") if end is not None]
    starts = [1, *(end + 1 for end in ends[:-1])]
    labels = [f"{start}–{end}" if start < end else f"{end}" for start, end in zip(starts, ends, strict=False)]
    return [*labels, f">{ends[-1]}"] if ends else []


def sizes_of_groups(header: dict[str, Any], negatives: float) -> list[float]:
    """How many ranks each rank group has of so many negatives; 0 of the groups that lie beyond them.

    Example:
        >>> sizes_of_groups({"rank_ends": [1, 2, 4]}, 9.0)
        [1.0, 1.0, 2.0, 5.0]
    """
    ends = [0.0, *(end for end in numbers_at(header, "rank_ends") if end is not None), math.inf]
    return [max(0.0, min(end, negatives) - start) for start, end in pairwise(ends)]


def per_negative(shares: Sequence[float | None], header: dict[str, Any], negatives: float | None) -> list[float | None]:
    """Mean share of one negative at the ranks of each group, from the groups' sums, which grow with the groups' sizes.

    Args:
        shares: of each group together.
        header: of scores.jsonl.
        negatives: how many a query has; without it the last group has no size.
    """
    sizes = sizes_of_groups(header, math.inf if negatives is None else negatives)
    return [
        None if share is None or not 0.5 <= size < math.inf else share / size
        for share, size in zip(shares, sizes, strict=False)
    ]


def has_lone_point(table: Table, column: str = "") -> bool:
    """Whether a line of the table has one point only, of which nothing would be seen without a mark.

    Args:
        table: with the columns ``run`` and, for several lines a run, ``kind``.
        column: of the line's numbers, where some of them may be missing.
    """
    runs = table.get("run", [])
    kinds, numbers = table.get("kind") or [""] * len(runs), table[column] if column else runs
    lines = zip(runs, kinds, numbers, strict=True)
    return 1 in Counter((run, kind) for run, kind, number in lines if number is not None).values()


def extend(table: Table, **columns: Any) -> None:
    """Add a row."""
    for name, value in columns.items():
        table.setdefault(name, []).append(rounded(value) if isinstance(value, float) else value)


STEP = Axis("step", "training step", ",d")


@dataclass(frozen=True)
class Line:
    """One number of a row.

    Args:
        name: in the legend.
        path: where it stands in a row.
        colour: of the theme, where one run is drawn.
        place: of a list that stands there, which.
        dashed: where it may cover another.
    """

    name: str
    path: tuple[str, ...]
    colour: str = "run-0"
    place: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Course:
    """Lines over training.

    Args:
        name: of the chart and of its table.
        label: stands above it.
        title: of the axis, with the unit.
        lines: what is drawn.
        format: how numbers are written, in d3's format.
        zero: whether the axis has to show zero.
        log: whether its scale is logarithmic.
    """

    name: str
    label: str
    title: str
    lines: tuple[Line, ...]
    format: str = "~g"
    zero: bool = False
    log: bool = False

    def add(self, runs: Sequence[RunRecord], charts: list[Chart], tables: dict[str, Table]) -> tuple[str, ...]:
        """Add the chart and its table, where there is anything to draw; the notes on what lies beyond its axis."""
        table: Table = {}
        for run in runs:
            for line in self.lines:
                for step, value in curve(run.observed, *line.path, share=line.place):
                    extend(table, run=run.name, kind=line.name, step=step, value=value)
        if not table:
            return ()
        tables[self.name] = table
        kinds = [Kind(line.name, line.colour, line.dashed) for line in self.lines if line.name in table["kind"]]
        y, notes = axis_within(Axis("value", self.title, self.format, zero=self.zero, log=self.log), table)
        names = [run.name for run in runs]
        spec = kinds_chart(self.name, STEP, y, names, kinds, points=has_lone_point(table))
        charts.append(Chart(self.name, spec, self.label))
        return notes


@dataclass(frozen=True)
class Band:
    """A mean over training in a band of two of the seven quantiles that rows give, 0.05 and 0.95.

    Args:
        name: of the chart and of its table.
        label: stands above it.
        title: of the axis, with the unit.
        quantiles: where the list of seven stands in a row.
        mean: where the line's number stands; the median where it is empty.
        reference: where the dashed line's number stands, or what it is of a row.
        log: whether the scale is logarithmic.
        power: of the reference's number that is drawn.
        most: whether numbers are counts from 1 to the reference.
    """

    name: str
    label: str
    title: str
    quantiles: tuple[str, ...]
    mean: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    log: bool = False
    power: float = 1.0
    most: bool = False

    def add(self, runs: Sequence[RunRecord], charts: list[Chart], tables: dict[str, Table]) -> tuple[str, ...]:
        """Add the chart and its table, where there is anything to draw; the notes on what lies beyond its axis."""
        table: Table = {}
        for run in runs:
            rows: Table = {}
            for row in run.observed:
                spread = [value for value in numbers_at(row, *self.quantiles) if value is not None]
                middle = number(value_at(row, *self.mean)) if self.mean else spread[3] if len(spread) == 7 else None
                if len(spread) != 7 or middle is None:
                    continue
                reference = number(value_at(row, *self.reference)) if self.reference else None
                # Quantiles are exact to a fine bin only, means are exact.
                low, high = min(spread[1], middle), max(spread[5], middle)
                if self.most and reference:
                    high = min(high, reference)
                dashed = reference**self.power if reference else None
                extend(rows, run=run.name, step=row["step"], value=middle, low=low, high=high, reference=dashed)
            for place in thin(rows.get("value", []), MOST_ROWS):
                extend(table, **{column: values[place] for column, values in rows.items()})
        if not table:
            return ()
        tables[self.name] = table
        axis = Axis("value", self.title, "~g", log=self.log, low=1.0 if self.most else None)
        y, notes = axis_within(axis, table, "low", "high", "reference")
        names = [run.name for run in runs]
        dashed_line = "reference" if self.reference else ""
        spec = band_chart(self.name, STEP, y, names, dashed_line, points=has_lone_point(table))
        charts.append(Chart(self.name, spec, self.label))
        return notes
