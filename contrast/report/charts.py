"""Figures, charts and axes of the report, as Vega-Lite specifications."""

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
    "RUN_COLOURS",
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
"""Data of a chart: columns of equal length by name. As JSON, columns take far less space than rows."""


@dataclass(frozen=True)
class Chart:
    """One Vega-Lite chart of a figure.

    Attributes:
        name: unique within the figure.
        spec: Vega-Lite specification. It names its data, which the page adds. It names its colours as
            ``theme:NAME``, so that one specification serves the light and the dark theme.
        label: heading above the chart, for a figure of several charts. May be empty.
    """

    name: str
    spec: dict[str, Any]
    label: str = ""


@dataclass(frozen=True)
class Figure:
    """Figure of the report: a titled group of charts with their data.

    Attributes:
        name: unique within the page. Anchors, names of downloaded files and tests use it.
        title: the heading of the figure.
        reading: how to read the figure, in one or two sentences.
        charts: the charts, drawn side by side where there is room.
        tables: the data of the charts, by the names that the specifications use. The CSV button downloads the first.
        notes: sentences on data that are thinned or left out.
        template: file name of the figure's HTML template.
        extra: further data for the template and for the figure's script, as JSON values.
        words: further data for the template only.
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
    """Placeholder for a figure that has no data yet.

    Attributes:
        name: name of the figure.
        title: title of the figure.
        reason: why there are no data, and what would provide them.
    """

    name: str
    title: str
    reason: str


RUN_COLOURS = 8
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
TENS = [10.0**power for power in range(-9, 10)]
FINER = [first * ten for ten in TENS for first in (1, 2, 5)]
"""Grid lines of a logarithmic axis. Vega's default is nine lines per decade, which is too dense to read."""


@dataclass(frozen=True)
class Axis:
    """Axis of a chart: a column of its table, and how to show it.

    Attributes:
        column: column of the chart's table.
        title: title of the axis, with the unit.
        number: d3 number format of labels and tooltips.
        zero: whether the axis must include zero.
        log: whether the scale is logarithmic.
        high: upper limit of the axis; larger values are clipped. None lets the data decide.
        low: lower limit of the axis. It applies to a logarithmic axis, or together with `high`.
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
        """Whether the values are integers, so that the ticks must be integers too."""
        return self.number.endswith("d")


def run_scales(runs: Sequence[str]) -> tuple[alt.Scale, alt.Scale]:
    """Scales for the colour and the dash of each run: after eight runs the colours repeat with another dash."""
    colours = [f"theme:run-{place % RUN_COLOURS}" for place in range(len(runs))]
    dashes = [DASHES[place // RUN_COLOURS % len(DASHES)] for place in range(len(runs))]
    return alt.Scale(domain=list(runs), range=colours), alt.Scale(domain=list(runs), range=dashes)


def line_chart(
    table: str, x: Axis, y: Axis, runs: Sequence[str], raw: str | None = None, points: bool = False
) -> dict[str, Any]:
    """Vega-Lite line chart with one line per run, and a tooltip for the point nearest to the pointer.

    Args:
        table: name of the table, with the columns ``run``, `raw` and those of both axes.
        x: the horizontal axis.
        y: the vertical axis.
        runs: names of the runs, in the order of the colours.
        raw: column that is drawn as a light, thin line behind the main line, on the scale of `y`.
        points: whether to mark every point, for series of few points.
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
    """Ticks and labels of an axis; no two labels are the same text."""
    if of.log:
        labels: dict[str, Any] = {} if of.number == "~g" else {"format": of.number}
        return alt.Axis(values=alt.ExprRef(f"domain('y')[1] > 50 * domain('y')[0] ? {TENS} : {FINER}"), **labels)
    if of.whole:
        # Vega may place ticks at half of tickMinStep, so labels of fractions are blanked.
        whole = "datum.value === round(datum.value) ? datum.label : ''"
        return alt.Axis(format=of.number, tickMinStep=1, labelExpr=whole)
    # A format without a precision takes the precision of the step between ticks. For "g" formats Vega uses it as the
    # number of significant digits, which writes 0.05 as 0.1; Vega's default labels are better there.
    return alt.Axis(format="~%") if of.number.endswith("%") else alt.Axis()


def scale_of(of: Axis) -> alt.Scale:
    """Vega-Lite scale of a vertical axis."""
    if of.log:
        ends: dict[str, Any] = {} if of.low is None else {"domainMin": of.low}
        return alt.Scale(type="log", nice=False, **ends)
    if of.low is not None and of.high is not None:
        return alt.Scale(domain=[of.low, of.high], nice=False)
    return alt.Scale(zero=of.zero) if of.high is None else alt.Scale(zero=of.zero, domainMax=of.high)


def chart_spec(layers: Sequence[alt.Chart], height: int, parameters: Sequence[alt.Parameter] = ()) -> dict[str, Any]:
    """Combine layers into one Vega-Lite specification that is as wide as its container.

    The schema's address and Altair's theme are removed, because the page has its own theme.

    Args:
        layers: the layers, from back to front.
        height: height of the chart in pixels.
        parameters: Vega-Lite parameters of the chart.
    """
    chart = alt.LayerChart(layer=list(layers)).properties(width="container", height=height).add_params(*parameters)
    spec: dict[str, Any] = chart.to_dict(validate=False)  # not validated here: a test validates every chart
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
    """Layer that shows the point nearest to the pointer, with a tooltip of its values."""
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
"""Largest ratio of a shared upper limit to the lowest limit of a run.

Each run then fills at least a third of the height.
"""
SPIKE, REST = 5.0, 0.9
"""Outliers: values more than `SPIKE` spans outside the middle `REST` (a share) of their run's values."""
FEWEST = 50
"""Smallest number of values for which outliers are cut; with fewer, every value is drawn."""
APART = 1000.0
"""Largest ratio between the values of runs on one linear axis: beyond it the smaller run would be a flat line."""
ROOM = 0.05  # margin beyond a limit that cuts values, as a share of the axis
SEEN = 1.05
"""Ratio to the end of a colour scale from which the difference is visible; smaller excesses get no note."""


def shared_top(tops: Sequence[float], far: float = FAR) -> float:
    """Upper limit of a scale that several runs share, so that one collapsed run does not flatten the others.

        limit = min(max(tops), far · min(tops)) where min(tops) > 0, else max(tops)

    Args:
        tops: the upper limit that each run has on its own scale.
        far: largest ratio of the shared limit to the lowest of `tops`.

    Example:
        >>> shared_top([4.0, 5.0, 33.0]), shared_top([4.0, 5.0, 7.0]), shared_top([33.0])
        (12.0, 7.0, 33.0)
    """
    return min(max(tops), far * min(tops)) if min(tops) > 0 else max(tops)


def axis_within(axis: Axis, table: Table, *further: str) -> tuple[Axis, tuple[str, ...]]:
    """Set limits on an axis where outliers would hide the rest of the data.

    Limits are set in three cases: outliers would flatten the line of their run; one run would flatten the others; or
    all values are equal, which would give the axis a single tick.

    Args:
        axis: the axis. A logarithmic axis, and an axis that already has limits, is returned unchanged.
        table: the data, with the columns ``run`` and `axis.column`.
        further: other columns that are drawn on the axis.

    Returns:
        The axis, and a note for each run that has values beyond the limits.
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
    """Limits that hold the values of all runs, without outliers and without runs of a far larger scale."""
    within = {run: _without_spikes(of_run) for run, of_run in values.items()}
    sizes = {run: max(abs(low), abs(high)) for run, (low, high) in within.items()}
    usual = sorted(sizes.values())[(len(sizes) - 1) // 2]
    kept = [within[run] for run, size in sizes.items() if size <= APART * usual] if usual else list(within.values())
    return min(low for low, _ in kept), max(high for _, high in kept)


def _without_spikes(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value of a run, without outliers."""
    ordered = sorted(values)
    cut = math.floor((1 - REST) / 2 * len(ordered))
    low, high = ordered[cut], ordered[-1 - cut]
    reach = SPIKE * (high - low)
    if len(ordered) < FEWEST or not reach:
        return ordered[0], ordered[-1]
    inside = [value for value in ordered if low - reach <= value <= high + reach]
    return inside[0], inside[-1]


def _notes(values: Mapping[str, Sequence[float]], low: float, high: float) -> list[str]:
    """One note for each run with values beyond the limits."""
    notes = []
    for run, of_run in values.items():
        beyond = [value for value in of_run if not low <= value <= high]
        if beyond:
            reach = f"{short(min(beyond))} to {short(max(beyond))}" if len(set(beyond)) > 1 else short(beyond[0])
            notes.append(
                f"{run}: {len(beyond):,} of its values lie beyond the axis ({reach}); they are not drawn, but the "
                "CSV has them."
            )
    return notes
