"""Line charts over training, one line a run: shared by every figure that shows a scalar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

__all__ = ["Axis", "axis_of", "chart_spec", "line_chart", "run_scales", "scale_of"]

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
