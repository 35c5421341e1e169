"""Curves over training steps: read them from rows, and draw one line per run."""

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
"""Largest number of points or columns drawn per run: more cannot be distinguished."""
RANK_AXIS = "hardness rank of the negative (1 is the hardest)"
_SETTLED = 10  # `settled` averages the last 1 / 10 of the rows


def value_at(row: dict[str, Any], *path: str) -> Any:
    """Look up a nested value of a row.

    Args:
        row: one row of a run's records.
        path: keys from the outside in. An index of a list is given as text, for example "0".

    Returns:
        The value, or None where the path leads nowhere.
    """
    value: Any = row
    for name in path:
        if isinstance(value, list):
            value = value[int(name)] if name.isdigit() and int(name) < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def numbers_at(row: dict[str, Any], *path: str) -> list[float | None]:
    """Look up a nested list of numbers of a row; values that are not finite numbers are None. Empty where missing."""
    values = value_at(row, *path)
    return [number(value) for value in values] if isinstance(values, list) else []


def some_of(rows: Sequence[dict[str, Any]], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """Sample at most `most` rows, evenly spread, with the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]


def curve(rows: Sequence[dict[str, Any]], *path: str, share: int | None = None) -> list[tuple[int, float]]:
    """Extract a curve from rows: steps and the finite numbers at a path.

    Args:
        rows: rows with the key ``step``, in order of step.
        path: keys of the value in a row, from the outside in.
        share: index into the list at the path. None where the path leads to a number.

    Returns:
        Pairs of step and value. Beyond `MOST_ROWS` rows the curve is thinned; the lowest and the highest value of each
        stretch stay.
    """
    points = []
    for row in [row for row in rows if path[0] in row]:  # skips most of up to a million rows early
        if share is None:
            value = number(value_at(row, *path))
        else:
            values = numbers_at(row, *path)
            value = values[share] if len(values) > share else None
        if value is not None:
            points.append((int(row["step"]), value))
    return [points[place] for place in thin([value for _, value in points], MOST_ROWS)]


def settled(rows: Sequence[dict[str, Any]], *path: str) -> list[float | None]:
    """Elementwise mean of the lists at a path over the last tenth of the rows, because one row covers few queries."""
    lists = [values for row in rows[-max(1, len(rows) // _SETTLED) :] if (values := numbers_at(row, *path))]
    means: list[float | None] = []
    for place in range(max(map(len, lists), default=0)):
        there = [value for values in lists if len(values) > place and (value := values[place]) is not None]
        means.append(rounded(sum(there) / len(there)) if there else None)
    return means


def rank_labels(header: dict[str, Any]) -> list[str]:
    """Labels of the rank groups: "1", "2", "3–4", … and ">128" for all further ranks.

    Example:
        >>> rank_labels({"rank_ends": [1, 2, 4]})
        ['1', '2', '3–4', '>4']
    """
    ends = [int(end) for end in numbers_at(header, "rank_ends") if end is not None]
    starts = [1, *(end + 1 for end in ends[:-1])]
    labels = [f"{start}–{end}" if start < end else f"{end}" for start, end in zip(starts, ends, strict=False)]
    return [*labels, f">{ends[-1]}"] if ends else []


def sizes_of_groups(header: dict[str, Any], negatives: float) -> list[float]:
    """Number of negatives in each rank group; 0 for a group beyond the last negative.

    Args:
        header: header row of scores.jsonl, with the last rank of each group.
        negatives: number of negatives per query.

    Example:
        >>> sizes_of_groups({"rank_ends": [1, 2, 4]}, 9.0)
        [1.0, 1.0, 2.0, 5.0]
    """
    ends = [0.0, *(end for end in numbers_at(header, "rank_ends") if end is not None), math.inf]
    return [max(0.0, min(end, negatives) - start) for start, end in pairwise(ends)]


def per_negative(shares: Sequence[float | None], header: dict[str, Any], negatives: float | None) -> list[float | None]:
    """Mean gradient share of one negative in each rank group: the group's share over the group's size.

    Args:
        shares: total share of each group.
        header: header row of scores.jsonl.
        negatives: number of negatives per query. None leaves the size of the last group unknown.

    Returns:
        One mean per group. None where the share is missing, or the group is empty or of unknown size.
    """
    sizes = sizes_of_groups(header, math.inf if negatives is None else negatives)
    return [
        None if share is None or not 0.5 <= size < math.inf else share / size
        for share, size in zip(shares, sizes, strict=False)
    ]


def has_lone_point(table: Table, column: str = "") -> bool:
    """Whether a line of the table has a single point, which is invisible without a mark.

    Args:
        table: the data, with the column ``run`` and, for several lines per run, ``kind``.
        column: column of the line's values, for a table in which some of them may be None.
    """
    runs = table.get("run", [])
    kinds, numbers = table.get("kind") or [""] * len(runs), table[column] if column else runs
    lines = zip(runs, kinds, numbers, strict=True)
    return 1 in Counter((run, kind) for run, kind, number in lines if number is not None).values()


def extend(table: Table, **columns: Any) -> None:
    """Append a row to a table; floats are rounded."""
    for name, value in columns.items():
        table.setdefault(name, []).append(rounded(value) if isinstance(value, float) else value)


STEP = Axis("step", "training step", ",d")


@dataclass(frozen=True)
class Line:
    """Line of a `Course`: one recorded number over training.

    Attributes:
        name: name in the legend.
        path: keys of the number in a row, from the outside in.
        colour: name of a theme colour, used where the chart shows one run.
        place: index into the list at `path`. None where the path leads to a number.
        dashed: whether the line is dashed, for a line that may cover another.
    """

    name: str
    path: tuple[str, ...]
    colour: str = "run-0"
    place: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Course:
    """Line chart of recorded numbers over training.

    Attributes:
        name: name of the chart and of its table.
        label: heading above the chart.
        title: title of the vertical axis, with the unit.
        lines: the lines to draw.
        format: d3 number format.
        zero: whether the vertical axis must include zero.
        log: whether the vertical scale is logarithmic.
    """

    name: str
    label: str
    title: str
    lines: tuple[Line, ...]
    format: str = "~g"
    zero: bool = False
    log: bool = False

    def add(self, runs: Sequence[RunRecord], charts: list[Chart], tables: dict[str, Table]) -> tuple[str, ...]:
        """Add the chart and its table, if there are data.

        Args:
            runs: the runs to draw.
            charts: receives the chart.
            tables: receives the table.

        Returns:
            Notes on values beyond the axis.
        """
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
    """Line chart of a mean over training, in a band between the 0.05 and 0.95 quantiles.

    Attributes:
        name: name of the chart and of its table.
        label: heading above the chart.
        title: title of the vertical axis, with the unit.
        quantiles: keys of the list of seven quantiles in a row, from the outside in.
        mean: keys of the mean in a row. Empty draws the median instead.
        reference: keys of the number in a row from which the dashed line is computed. Empty draws no dashed line.
        log: whether the vertical scale is logarithmic.
        power: exponent of the dashed line: it is drawn at the reference number to this power.
        most: whether values are counts from 1 to the reference number.
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
        """Add the chart and its table, if there are data.

        Args:
            runs: the runs to draw.
            charts: receives the chart.
            tables: receives the table.

        Returns:
            Notes on values beyond the axis.
        """
        table: Table = {}
        for run in runs:
            rows: Table = {}
            for row in run.observed:
                spread = [value for value in numbers_at(row, *self.quantiles) if value is not None]
                middle = number(value_at(row, *self.mean)) if self.mean else spread[3] if len(spread) == 7 else None
                if len(spread) != 7 or middle is None:
                    continue
                reference = number(value_at(row, *self.reference)) if self.reference else None
                # Quantiles are exact only up to a fine bin, means are exact: a mean may lie just outside the band.
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
