"""Kinds of charts: lines over steps, densities, bars."""

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
"""Share of a heat map's cells that its scale of colours reaches."""
DASHES = ([1, 0], [6, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2])


@dataclass(frozen=True)
class Kind:
    """One kind of line.

    Args:
        name: in the column ``kind`` and in the legend.
        colour: of the theme, where one run is drawn.
        dashed: lets a line that may lie below it shine through.
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
    """Lines by run and kind: of one run kinds have colours; of several, runs have colours and kinds dashes.

    Args:
        table: with columns ``run``, ``kind``, x's and y's.
        x, y: the axes.
        runs: their names, in order.
        kinds: in the order of the legend.
        ordinal: the values of x in their order, where it is no number.
        points: whether to mark every point, as of a line that has one only.
    """
    base = alt.Chart(alt.NamedData(name=table)).encode(
        x=_across(x, ordinal), y=_up(y), **_told_apart(runs, kinds), tooltip=_tooltip(x, y, runs, ordinal)
    )
    lines = base.mark_line(strokeWidth=2, point={"size": 30} if ordinal or points else False, clip=y.high is not None)
    nearest = base.mark_point(size=80, opacity=0)  # something to point at
    return chart_spec([lines, nearest], height=260)


def band_chart(
    table: str, x: Axis, y: Axis, runs: Sequence[str], reference: str = "", points: bool = False
) -> dict[str, Any]:
    """A line by run in a band from ``low`` to ``high``, and a dashed line at the column ``reference``.

    Args:
        table: with columns ``run``, ``low``, ``high``, x's and y's.
        x, y: the axes.
        runs: their names, in order.
        reference: what the dashed line is; none is drawn where it is empty.
        points: whether to mark every point, as of a line that has one only.
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
    """A heat map over training: one column a row of the run, ``from`` and ``to`` its ends.

    Args:
        table: with ``from``, ``to``, ``step``, value's column and, for numbers, y's and ``high``.
        y: what goes up.
        value: what is coloured.
        ordinal: the values of y from the top, where they are no numbers.
        shared: the data of all maps that are to be compared: they have one axis of steps and one scale of colours.
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
    """A note for each run that has cells beyond the shared scale of colours, which are drawn like its end.

    Args:
        value: what is coloured.
        tables: the maps' data by run.
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
    """What nearly all cells are below: a few peaks would leave the others pale."""
    return sorted(values)[math.ceil(BELOW * len(values)) - 1]


def _across(x: Axis, ordinal: Sequence[str] | None) -> alt.X:
    if ordinal is not None:
        return alt.X(f"{x.column}:O", title=x.title, sort=list(ordinal), axis=alt.Axis(labelAngle=0))
    return alt.X(f"{x.column}:Q", title=x.title, axis=axis_of(x), scale=alt.Scale(nice=False))


def _up(y: Axis) -> alt.Y:
    return alt.Y(f"{y.column}:Q", title=y.title, axis=axis_of(y), scale=scale_of(y))


def _told_apart(runs: Sequence[str], kinds: Sequence[Kind]) -> dict[str, Any]:
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
