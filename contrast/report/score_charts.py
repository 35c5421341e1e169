"""Charts of scores: densities over training, and the histograms of one step."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import altair as alt

from contrast.report.lines import chart_spec

__all__ = ["PAIRINGS", "heat_map", "histogram"]

SCORE = "score (cosine similarity)"
Pairing = Literal["positive", "negative"]
PAIRINGS: tuple[Pairing, Pairing] = ("positive", "negative")


def heat_map(pairing: Pairing, axes: dict[str, float]) -> dict[str, Any]:
    """Step across, score up, density as colour; both means as lines; the chosen step as a rule."""
    across = alt.Scale(domain=[axes["first"], axes["last"]], nice=False, zero=False)
    up = alt.Scale(domain=[axes["low"], axes["high"]], nice=False, zero=False)
    ramp = alt.Scale(
        type="pow",
        exponent=0.5,
        domain=[0, axes["peak"]],
        clamp=True,
        interpolate="lab",
        range=[f"theme:{pairing}-{stop}" for stop in range(5)],
    )
    legend = alt.Legend(
        title="density (per unit of score)",
        orient="top",
        titleOrient="left",
        gradientLength=alt.ExprRef("min(140, width / 3)"),
        tickCount=3,
    )
    cells = (
        # each cell reaches half a pixel into the next: between exact edges the page would shine through
        alt.Chart(alt.NamedData(name="cells"))
        .mark_rect(x2Offset=0.5, yOffset=0.5, clip=True)
        .encode(
            x=alt.X(
                "from:Q", title="training step", axis=alt.Axis(format=",d", tickMinStep=1, grid=False), scale=across
            ),
            x2="to:Q",
            y=alt.Y("low:Q", title=SCORE, axis=alt.Axis(grid=False), scale=up),
            y2="high:Q",
            color=alt.Color("density:Q", scale=ramp, legend=legend),
            tooltip=[alt.Tooltip("step:Q", format=",d"), *_numbers("low", "high", "density")],
        )
    )
    chosen = alt.Chart(alt.NamedData(name="chosen")).mark_rule(strokeWidth=1.5, color="theme:ink").encode(x="step:Q")
    other = PAIRINGS[1 - PAIRINGS.index(pairing)]
    means = [*_mean_line(other, dashed=True), *_mean_line(pairing, dashed=False)]
    return chart_spec([cells, *means, chosen], height=300)


def _mean_line(pairing: Pairing, dashed: bool) -> list[alt.Chart]:
    """A line in the colour of its pairs over a wider one in the page's, to be seen on any density."""
    line = alt.Chart(alt.NamedData(name="means")).encode(x="step:Q", y=f"{pairing}:Q")
    dash = [5, 4] if dashed else [1, 0]
    return [
        line.mark_line(strokeWidth=4, color="theme:card", opacity=0.85, clip=True),
        line.mark_line(strokeWidth=1.75, color=f"theme:{pairing}-mean", strokeDash=dash, clip=True),
    ]


def histogram(axes: dict[str, float], names: dict[str, str], log: bool) -> dict[str, Any]:
    """Densities at the chosen step, and their means as rules.

    Its parameters: `top` grows for a peak above the shared one, `shown` is what the legend names.

    Args:
        axes: shared limits.
        names: histograms of some negatives, as the legend calls them.
        log: whether densities are on a logarithmic scale.
    """
    floor = axes["floor"] if log else 0.0
    across = alt.Scale(domain=[axes["low"], axes["high"]], nice=False, zero=False)
    up = alt.Scale(type="log" if log else "linear", domain=[floor, alt.ExprRef("top")], nice=False)
    x = alt.X("low:Q", title=SCORE, scale=across)
    tens = [10.0**power for power in range(math.ceil(math.log10(axes["floor"])), 3)]
    y_axis = alt.Axis(format="~g", values=tens) if log else alt.Axis(tickCount=5)
    y = alt.Y("density:Q", title="density (per unit of score)", stack=None, scale=up, axis=y_axis)
    base = alt.Chart(alt.NamedData(name="histogram")).encode(x=x, y=y, color=_colour(names))
    both = f"indexof({json.dumps(PAIRINGS)}, datum.pairs) >= 0"
    area = base.mark_area(interpolate="step-after", fillOpacity=0.3, line={"strokeWidth": 1.5}, clip=True)
    line = base.mark_line(interpolate="step-after", strokeWidth=2, clip=True)
    rule = alt.Chart(alt.NamedData(name="centres")).mark_rule(strokeWidth=1.5, strokeDash=[4, 3], clip=True)
    # What is cut off says how high it is, at the place where it leaves the axis; over a wider one in the page's colour.
    beyond = alt.Chart(alt.NamedData(name="beyond")).encode(x="low:Q", y=alt.value(3), text="label:N")
    words: dict[str, Any] = {"align": "right", "baseline": "top", "dx": -8, "fontWeight": 600}
    cut = [
        beyond.mark_text(**words, stroke="theme:card", strokeWidth=5, strokeJoin="round"),
        beyond.mark_text(**words).encode(color=_colour(names)),
    ]
    layers = [
        area.encode(y2=alt.datum(floor)).transform_filter(both),
        line.transform_filter(f"!({both})"),
        rule.encode(x="mean:Q", color=_colour(names)),
        *cut,
    ]
    parameters = [alt.param(name="top", value=axes["peak"]), alt.param(name="shown", value=list(PAIRINGS))]
    return chart_spec(layers, height=240, parameters=parameters)


def _colour(names: dict[str, str]) -> alt.Color:
    legend = alt.Legend(
        title=None,
        orient="top",
        symbolType="square",
        columns=alt.ExprRef("width < 500 ? 1 : 3"),
        labelExpr=f"{json.dumps({each: f'{each}s' for each in PAIRINGS} | names)}[datum.label]",
        values=alt.ExprRef("shown"),
    )
    scale = alt.Scale(domain=[*PAIRINGS, *names], range=[f"theme:{name}" for name in (*PAIRINGS, *names)])
    return alt.Color("pairs:N", scale=scale, legend=legend)


def _numbers(*columns: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{column}:Q", format=".3~g") for column in columns]
