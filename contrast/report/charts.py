"""Figures of the report, their axes and limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from contrast.report.numbers import short

__all__ = [
    "FAR",
    "SEEN",
    "Axis",
    "Chart",
    "Figure",
    "Missing",
    "Table",
    "axis_of",
    "axis_within",
    "chart_spec",
    "line_chart",
    "run_scales",
    "scale_of",
    "shared_top",
]

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


RUN_COLOURS = 8
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
TENS = [10.0**power for power in range(-9, 10)]
FINER = [first * ten for ten in TENS for first in (1, 2, 5)]
"""Where a logarithmic axis has lines; the library's own are all nine of a decade, a grid too dense to read."""


@dataclass(frozen=True)
class Axis:
    """A column and how its axis shows it.

    Args:
        column: of the chart's table.
        title: with the unit.
        number: how labels and tooltips write it, in d3's number format.
        zero: whether the axis has to show zero.
        log: whether its scale is logarithmic.
        high: where the axis ends, whatever goes beyond.
        low: where a logarithmic axis begins, or one that has a high end too.
    """

    column: str
    title: str
    number: str
    zero: bool = False
    log: bool = False
    high: float | None = None
    low: float | None = None

    @property
    def whole(self) -> bool:
        """Whether it counts something that has no fractions, so that its ticks are whole numbers."""
        return self.number.endswith("d")


def run_scales(runs: Sequence[str]) -> tuple[alt.Scale, alt.Scale]:
    """Colour and dash by run: the colours repeat after eight, with another dash."""
    colours = [f"theme:run-{place % RUN_COLOURS}" for place in range(len(runs))]
    dashes = [DASHES[place // RUN_COLOURS % len(DASHES)] for place in range(len(runs))]
    return alt.Scale(domain=list(runs), range=colours), alt.Scale(domain=list(runs), range=dashes)


def line_chart(
    table: str, x: Axis, y: Axis, runs: Sequence[str], raw: str | None = None, points: bool = False
) -> dict[str, Any]:
    """A Vega-Lite line chart that shows the nearest point's values under the pointer.

    Args:
        table: the name of its data, with the columns ``run``, x's, y's and `raw`.
        x: the horizontal axis.
        y: the vertical axis.
        runs: their names, in the order of the colours.
        raw: a column on y's scale that is drawn light and thin behind the line.
        points: whether to mark every point, for series of a few.
    """
    across = alt.X(f"{x.column}:Q", title=x.title, axis=axis_of(x), scale=alt.Scale(nice=False))
    base = alt.Chart(alt.NamedData(name=table)).encode(x=across, **_colour(runs))
    up = alt.Y(f"{y.column}:Q", title=y.title, axis=axis_of(y), scale=scale_of(y))
    clip = y.high is not None
    layers = [base.mark_line(strokeWidth=2, point={"size": 24} if points else False, clip=clip).encode(y=up)]
    if raw is not None:
        behind = alt.Y(f"{raw}:Q", title=y.title)
        layers.insert(
            0, base.mark_line(strokeWidth=1, opacity=0.3 if len(runs) == 1 else 0.15, clip=clip).encode(y=behind)
        )
    layers.append(_pointed(base, x, y, raw))
    return chart_spec(layers, height=260)


def axis_of(of: Axis) -> alt.Axis:
    """Ticks and their labels, of which no two are the same text."""
    if of.log:
        labels: dict[str, Any] = {} if of.number == "~g" else {"format": of.number}
        return alt.Axis(values=alt.ExprRef(f"domain('y')[1] > 50 * domain('y')[0] ? {TENS} : {FINER}"), **labels)
    if of.whole:
        # The library keeps the least step to within half of it only.
        whole = "datum.value === round(datum.value) ? datum.label : ''"
        return alt.Axis(format=of.number, tickMinStep=1, labelExpr=whole)
    # Without digits of its own a format takes as many as the step between ticks has. With "g" formats it takes that
    # many significant ones, so that 0.05 is written 0.1: there the library's own choice is better.
    return alt.Axis(format="~%") if of.number.endswith("%") else alt.Axis()


def scale_of(of: Axis) -> alt.Scale:
    """The scale of an axis that goes up."""
    if of.log:
        ends: dict[str, Any] = {} if of.low is None else {"domainMin": of.low}
        return alt.Scale(type="log", nice=False, **ends)
    if of.low is not None and of.high is not None:
        return alt.Scale(domain=[of.low, of.high], nice=False)
    return alt.Scale(zero=of.zero) if of.high is None else alt.Scale(zero=of.zero, domainMax=of.high)


def chart_spec(layers: Sequence[alt.Chart], height: int, parameters: Sequence[alt.Parameter] = ()) -> dict[str, Any]:
    """The layers as Vega-Lite, as wide as the page gives them room; without the schema's address and the library's
    theme: the page brings its own."""
    chart = alt.LayerChart(layer=list(layers)).properties(width="container", height=height).add_params(*parameters)
    spec: dict[str, Any] = chart.to_dict(validate=False)  # a test validates every chart, once
    return {key: value for key, value in spec.items() if key not in ("$schema", "config")}


def _colour(runs: Sequence[str]) -> dict[str, Any]:
    if len(runs) == 1:
        return {"color": alt.value("theme:run-0")}
    colour, dash = run_scales(runs)
    columns = alt.ExprRef("width < 500 ? 1 : 3")
    legend = alt.Legend(title=None, orient="top", columns=columns, symbolType="stroke", symbolOpacity=1)
    return {
        "color": alt.Color("run:N", scale=colour, legend=legend),
        "strokeDash": alt.StrokeDash("run:N", scale=dash, legend=legend),
    }


def _pointed(base: alt.Chart, x: Axis, y: Axis, raw: str | None) -> alt.Chart:
    """The nearest point, shown on hovering with its numbers."""
    nearest = alt.selection_point(
        name="pointed", nearest=True, on="pointerover", clear="pointerout", encodings=["x"], empty=False
    )
    columns = {x.column: x.number, y.column: y.number} | ({raw: y.number} if raw else {})
    tooltip = [alt.Tooltip("run:N"), *(alt.Tooltip(f"{name}:Q", format=form) for name, form in columns.items())]
    opacity = alt.condition(nearest, alt.value(1), alt.value(0))
    points: alt.Chart = base.mark_point(size=60, filled=True, clip=y.high is not None)
    points = points.encode(y=f"{y.column}:Q", opacity=opacity, tooltip=tooltip)
    return points.add_params(nearest).properties(name="points")


FAR = 3.0
"""How many times the lowest of the runs' own tops a shared top may be: each run has a third of the height or more."""
SPIKE, REST = 5.0, 0.9
"""A value is a spike where it lies further than `SPIKE` spans outside the middle `REST` of its run's values."""
FEWEST = 50
"""Values that quantiles are taken of; of fewer, each one is drawn."""
APART = 1000.0
"""Runs whose values differ by more than this factor cannot share a linear axis: the smaller would be flat."""
ROOM = 0.05
SEEN = 1.05
"""How far above a scale's end a colour would be another one to the eye: what is less is not worth a note."""


def shared_top(tops: Sequence[float], far: float = FAR) -> float:
    """Top of a scale of densities that several runs share, so that one collapsed run does not flatten the others.

    Args:
        tops: the top that each run has by itself.
        far: how many times the lowest of them it may be.

    Example:
        >>> shared_top([4.0, 5.0, 33.0]), shared_top([4.0, 5.0, 7.0]), shared_top([33.0])
        (12.0, 7.0, 33.0)
    """
    return min(max(tops), far * min(tops)) if min(tops) > 0 else max(tops)


def axis_within(axis: Axis, table: Table, *further: str) -> tuple[Axis, tuple[str, ...]]:
    """The axis with limits where it needs some, and a note for each run that has values beyond them.

    Limits are set where spikes would flatten a run, where a run would flatten the others, and where all values are the
    same one, of which an axis would have a single tick.

    Args:
        axis: without limits of its own; a logarithmic one gets none.
        table: with the columns ``run`` and the axis's.
        further: other columns that are drawn on the axis.
    """
    if axis.log or axis.high is not None or axis.low is not None:
        return axis, ()
    values: dict[str, list[float]] = {}
    for column in (axis.column, *further):
        for run, value in zip(table.get("run", []), table.get(column, []), strict=True):
            if value is not None:
                values.setdefault(run, []).append(value)
    if not values:
        return axis, ()
    lowest, highest = min(map(min, values.values())), max(map(max, values.values()))
    low, high = _limits(values)
    if axis.zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        around = max(abs(low) / 100 or 1.0, 1.0 if axis.whole else 0.0)
        low, high = low - around, high + around
        return dataclasses.replace(axis, low=low, high=high), tuple(_notes(values, low, high))
    if lowest >= low and highest <= high:
        return axis, ()
    room = ROOM * (high - low)
    low, high = (low if lowest >= low else low - room), (high if highest <= high else high + room)
    return dataclasses.replace(axis, low=low, high=high), tuple(_notes(values, low, high))


def _limits(values: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    within = {run: _without_spikes(of_run) for run, of_run in values.items()}
    sizes = {run: max(abs(low), abs(high)) for run, (low, high) in within.items()}
    usual = sorted(sizes.values())[(len(sizes) - 1) // 2]
    kept = [within[run] for run, size in sizes.items() if size <= APART * usual] if usual else list(within.values())
    return min(low for low, _ in kept), max(high for _, high in kept)


def _without_spikes(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = math.floor((1 - REST) / 2 * len(ordered))
    low, high = ordered[cut], ordered[-1 - cut]
    reach = SPIKE * (high - low)
    if len(ordered) < FEWEST or not reach:
        return ordered[0], ordered[-1]
    inside = [value for value in ordered if low - reach <= value <= high + reach]
    return inside[0], inside[-1]


def _notes(values: Mapping[str, Sequence[float]], low: float, high: float) -> list[str]:
    notes = []
    for run, of_run in values.items():
        beyond = [value for value in of_run if not low <= value <= high]
        if beyond:
            reach = f"{short(min(beyond))} to {short(max(beyond))}" if len(set(beyond)) > 1 else short(beyond[0])
            notes.append(
                f"{run}: {len(beyond):,} of its values lie beyond the axis ({reach}); they are not drawn, but are in "
                "the CSV."
            )
    return notes
