"""Charts of several numbers over training, each given by where it stands in the observed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contrast.report.curves import MOST_ROWS, curve, extend, has_lone_point, numbers_at, value_at
from contrast.report.figure import Chart, Table
from contrast.report.kinds import Kind, band_chart, kinds_chart
from contrast.report.limits import axis_within
from contrast.report.lines import Axis
from contrast.report.numbers import number
from contrast.report.run_record import RunRecord
from contrast.report.series import thin

__all__ = ["STEP", "Band", "Course", "Line"]

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
