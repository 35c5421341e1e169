"""Chart types of the report: lines by kind, lines in a band, heat maps and sparklines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
from markupsafe import Markup

from contrast.report.charts import SEEN, Axis, Table, axis_of, chart_spec, run_scales, scale_of, shared_top
from contrast.report.numbers import percent, short

__all__ = ["Kind", "band_chart", "clipped_cells", "heat_chart", "kinds_chart", "means", "sparkline"]

BELOW = 0.995
"""Share of a heat map's cells that the colour scale covers; the densest cells are clipped."""
DASHES = ([1, 0], [6, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2])


@dataclass(frozen=True)
class Kind:
    """One kind of line in a chart.

    Attributes:
        name: value in the column ``kind``, and name in the legend.
        colour: name of a theme colour, used where the chart shows one run.
        dashed: whether the line is dashed, so that a line below it stays visible.
    """

    name: str
    colour: str
    dashed: bool = False


def kinds_chart(
    table: str,
    x: Axis,
    y: Axis,
    runs: Sequence[str],
    kinds: Sequence[Kind],
    ordinal: Sequence[str] | None = None,
    points: bool = False,
) -> dict[str, Any]:
    """Line chart with one line per run and kind.

    With one run, the kinds have different colours. With several runs, the runs have colours and the kinds have dashes.

    Args:
        table: name of the table, with the columns ``run``, ``kind`` and those of both axes.
        x, y: the axes.
        runs: names of the runs, in order.
        kinds: the kinds, in the order of the legend.
        ordinal: the values of x in order, where they are not numbers.
        points: whether to mark every point. A line of a single point is invisible without a mark.
    """
    base = alt.Chart(alt.NamedData(name=table)).encode(
        x=_across(x, ordinal), y=_up(y), **_told_apart(runs, kinds), tooltip=_tooltip(x, y, runs, ordinal)
    )
    lines = base.mark_line(strokeWidth=2, point={"size": 30} if ordinal or points else False, clip=y.high is not None)
    nearest = base.mark_point(size=80, opacity=0)  # invisible targets that make the tooltip easy to hit
    return chart_spec([lines, nearest], height=260)


def band_chart(
    table: str, x: Axis, y: Axis, runs: Sequence[str], reference: str = "", points: bool = False
) -> dict[str, Any]:
    """Line chart with a band from ``low`` to ``high`` around each run's line, and an optional dashed reference line.

    Args:
        table: name of the table, with the columns ``run``, ``low``, ``high`` and those of both axes.
        x, y: the axes.
        runs: names of the runs, in order.
        reference: if not empty, a dashed line is drawn at the table's column ``reference``.
        points: whether to mark every point. A line of a single point is invisible without a mark.
    """
    base = alt.Chart(alt.NamedData(name=table)).encode(x=_across(x, None), **_by_run(runs))
    clip = y.high is not None
    layers = [
        base.mark_area(opacity=0.18, strokeOpacity=0, clip=clip).encode(
            y=alt.Y("low:Q", title=y.title, scale=scale_of(y)), y2="high:Q"
        ),
        base.mark_line(strokeWidth=2, point={"size": 40} if points else False, clip=clip).encode(y=_up(y)),
    ]
    if reference:
        dashed = alt.Chart(alt.NamedData(name=table)).encode(x=_across(x, None), detail="run:N")
        layers.append(
            dashed.mark_line(strokeWidth=1.5, strokeDash=[4, 4], color="theme:ink", point=points).encode(
                y=alt.Y("reference:Q", title=y.title, scale=scale_of(y))
            )
        )
    numbers = [alt.Tooltip(f"{column}:Q", format=".4~g") for column in (y.column, "low", "high")]
    tooltip = [alt.Tooltip("run:N"), alt.Tooltip(f"{x.column}:Q", format=x.number), *numbers]
    layers.append(base.mark_point(size=80, opacity=0).encode(y=_up(y), tooltip=tooltip))
    return chart_spec(layers, height=260)


def heat_chart(
    table: str, y: Axis, value: Axis, ordinal: Sequence[str] | None, shared: Sequence[Table]
) -> dict[str, Any]:
    """Heat map over training: each recorded row of the run is one column of cells.

    Args:
        table: name of the table, with the columns ``from`` and ``to`` (start and end of a cell, in steps),
            ``step``, those of `y` and `value`, and ``high`` (the upper end of a cell) where `y` is a number.
        y: the vertical axis.
        value: the quantity that the colour shows.
        ordinal: the values of `y` from top to bottom, where they are not numbers.
        shared: tables of all heat maps to compare. They get the same step axis and the same colour scale.
    """
    axis = alt.Axis(format=",d", grid=False)
    steps = [min(min(each["from"]) for each in shared), max(max(each["to"]) for each in shared)]
    top = shared_top([_top(each[value.column]) for each in shared])
    across = alt.X("from:Q", title="training step", axis=axis, scale=alt.Scale(nice=False, zero=False, domain=steps))
    length = alt.ExprRef("min(140, width / 3)")
    written: dict[str, Any] = {} if value.number == "~g" else {"format": value.number}
    legend = alt.Legend(
        title=value.title, orient="top", titleOrient="left", gradientLength=length, tickCount=3, **written
    )
    stops = [f"theme:negative-{stop}" for stop in range(5)]
    ramp = alt.Scale(type="pow", exponent=0.5, interpolate="lab", range=stops, domain=[0, top], clamp=True)
    cells = alt.Chart(alt.NamedData(name=table)).encode(
        x=across,
        x2="to:Q",
        color=alt.Color(f"{value.column}:Q", scale=ramp, legend=legend),
        tooltip=[
            alt.Tooltip("step:Q", format=",d"),
            alt.Tooltip(f"{y.column}:{'O' if ordinal else 'Q'}", title=y.title),
            alt.Tooltip(f"{value.column}:Q", format=value.number, title=value.title),
        ],
    )
    plain = alt.Axis(grid=False)
    if ordinal:
        up = alt.Y(f"{y.column}:O", sort=list(ordinal), title=y.title, axis=plain)
        drawn = cells.encode(y=up).mark_rect(x2Offset=0.5, clip=True)
    else:
        up = alt.Y(f"{y.column}:Q", title=y.title, axis=plain, scale=scale_of(y))
        drawn = cells.encode(y=up, y2="high:Q").mark_rect(x2Offset=0.5, yOffset=0.5, clip=True)
    return chart_spec([drawn], height=260)


def clipped_cells(value: Axis, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Notes on heat maps with cells beyond the shared colour scale; such cells have the colour of the scale's end.

    Args:
        value: the quantity that the colour shows.
        tables: data of the heat maps, by run.

    Returns:
        One note for each run that has such cells.
    """
    top = shared_top([_top(each[value.column]) for each in tables.values()])
    said = percent if value.number.endswith("%") else short
    notes = []
    for run, table in tables.items():
        beyond = [each for each in table[value.column] if each > SEEN * top]
        if beyond:
            notes.append(
                f"{run}: colour ends at {said(top)}; {len(beyond):,} of its cells reach up to {said(max(beyond))}."
            )
    return tuple(notes)


def _top(values: Sequence[float]) -> float:
    """Upper end of the colour scale: a high quantile, because a few peaks would leave all other cells pale."""
    return sorted(values)[math.ceil(BELOW * len(values)) - 1]


def _across(x: Axis, ordinal: Sequence[str] | None) -> alt.X:
    if ordinal is not None:
        return alt.X(f"{x.column}:O", title=x.title, sort=list(ordinal), axis=alt.Axis(labelAngle=0))
    return alt.X(f"{x.column}:Q", title=x.title, axis=axis_of(x), scale=alt.Scale(nice=False))


def _up(y: Axis) -> alt.Y:
    return alt.Y(f"{y.column}:Q", title=y.title, axis=axis_of(y), scale=scale_of(y))


def _told_apart(runs: Sequence[str], kinds: Sequence[Kind]) -> dict[str, Any]:
    """Encodings of colour and dash that distinguish runs and kinds."""
    names = [kind.name for kind in kinds]
    columns = alt.ExprRef("width < 500 ? 2 : 4")
    legend = alt.Legend(title=None, orient="top", columns=columns, symbolType="stroke", symbolOpacity=1)
    if len(runs) == 1 and len(kinds) == 1:
        return {"color": alt.value(f"theme:{kinds[0].colour}")}
    if len(runs) == 1:
        colours = alt.Scale(domain=names, range=[f"theme:{kind.colour}" for kind in kinds])
        dashes = alt.Scale(domain=names, range=[DASHES[kind.dashed] for kind in kinds])
        return {
            "color": alt.Color("kind:N", scale=colours, legend=legend),
            "strokeDash": alt.StrokeDash("kind:N", scale=dashes, legend=legend),
        }
    colour, _ = run_scales(runs)
    told: dict[str, Any] = {"color": alt.Color("run:N", scale=colour, legend=legend)}
    if len(kinds) > 1:
        dash = alt.Scale(domain=names, range=[DASHES[place % len(DASHES)] for place in range(len(names))])
        told["strokeDash"] = alt.StrokeDash("kind:N", scale=dash, legend=legend)
    return told


def _by_run(runs: Sequence[str]) -> dict[str, Any]:
    """Encoding of colour that distinguishes runs."""
    if len(runs) == 1:
        return {"color": alt.value("theme:run-0")}
    colour, _ = run_scales(runs)
    columns = alt.ExprRef("width < 500 ? 1 : 3")
    legend = alt.Legend(title=None, orient="top", columns=columns, symbolType="stroke", symbolOpacity=1)
    return {"color": alt.Color("run:N", scale=colour, legend=legend)}


def _tooltip(x: Axis, y: Axis, runs: Sequence[str], ordinal: Sequence[str] | None) -> list[alt.Tooltip]:
    across = alt.Tooltip(f"{x.column}:O") if ordinal else alt.Tooltip(f"{x.column}:Q", format=x.number)
    first = [alt.Tooltip("run:N")] if len(runs) > 1 else []
    return [*first, alt.Tooltip("kind:N"), across, alt.Tooltip(f"{y.column}:Q", format=".4~g")]


WIDTH, HEIGHT, MARGIN = 132, 34, 4
MOST_POINTS = 60
"""Largest number of points of a sparkline."""


def means(values: Sequence[float], most: int = MOST_POINTS) -> list[float]:
    """Downsample a series by averaging stretches of equal length, which also smooths it.

    Args:
        values: the series.
        most: largest number of means.

    Example:
        >>> means([1.0, 3.0, 5.0, 7.0], most=2)
        [2.0, 6.0]
    """
    count = min(most, len(values))
    ends = [place * len(values) // count for place in range(count + 1)] if count else []
    stretches = [values[begin:end] for begin, end in pairwise(ends)]
    return [sum(stretch) / len(stretch) for stretch in stretches]


def sparkline(values: Sequence[float], label: str, least: float = 0.0) -> Markup:
    """Sparkline: a small inline SVG line with a dot at its end; empty where there are no values.

    Args:
        values: the series, from left to right.
        label: description for screen readers.
        least: smallest range of values that the full height stands for, so that noise does not look like a trend.
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
