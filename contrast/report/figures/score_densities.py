"""Densities of positive and negative scores over training, and both histograms at a chosen step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import altair as alt

from contrast.report.figure import Chart, Figure, Missing
from contrast.report.lines import chart_spec
from contrast.report.numbers import rounded
from contrast.report.run_record import RunRecord, ScoreSummary, Snapshot

__all__ = ["score_densities"]

NAME, TITLE = "score-densities", "Scores of positives and negatives over training"
READING = (
    "Each column is one histogram of cosine similarities before the temperature: positives should gather near 1 and "
    "negatives drift to 0 and spread. Solid line: the mean of the pairs shown; dashed: the mean of the other kind. "
    "Choose a step with the slider, with the arrow keys on it, or by clicking in a map."
)
COLOURS = (
    "Colour goes with the square root of the density, so that thin tails show, and ends where 95 % of the snapshots "
    "have their peak or below. Scores outside the bins are counted in the end bins."
)
MOST_SNAPSHOTS = 240
SCORE = "score (cosine similarity)"
Pairing = Literal["positive", "negative"]
PAIRINGS: tuple[Pairing, Pairing] = ("positive", "negative")


def score_densities(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Heat maps on shared axes and shared colours, so that runs compare; scores travel as counts, once."""
    shown = [run for run in runs if run.snapshots]
    if not shown:
        return Missing(NAME, TITLE, "scores.jsonl has no histograms yet: they are written while a run trains.")
    notes = [COLOURS, *(f"{run.name}: no score histograms yet." for run in runs if not run.snapshots)]
    packed = []
    for run in shown:
        kept = _spread(run.snapshots)
        packed.append(_packed(run, kept))
        if len(kept) < len(run.snapshots):
            notes.append(f"{run.name}: {len(kept)} of {len(run.snapshots):,} snapshots shown, evenly spread.")
        missing = [pairing for pairing in PAIRINGS if not any(getattr(snapshot, pairing) for snapshot in kept)]
        notes.extend(f"{run.name}: its method recorded no {pairing} pairs." for pairing in missing)
    axes = _axes(packed)
    charts = (
        Chart("positive", _heat_map("positive", axes), "Positive pairs"),
        Chart("negative", _heat_map("negative", axes), "Negative pairs"),
        Chart("linear", _histogram(axes, log=False), "Histograms at this step"),
        Chart("log", _histogram(axes, log=True), "Histograms at this step"),
    )
    extra = {"runs": packed, "peak": axes["peak"], "floor": axes["floor"]}
    return Figure(NAME, TITLE, READING, charts, {}, tuple(notes), "score_densities.html", extra)


def _spread(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    if len(snapshots) <= MOST_SNAPSHOTS:
        return list(snapshots)
    last = len(snapshots) - 1
    return [snapshots[round(place * last / (MOST_SNAPSHOTS - 1))] for place in range(MOST_SNAPSHOTS)]


def _packed(run: RunRecord, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """A run's snapshots by column; the page's script makes the charts' rows of them."""
    return {
        "name": run.name,
        "edges": run.edges,
        "step": [snapshot.step for snapshot in snapshots],
        "epoch": [snapshot.epoch for snapshot in snapshots],
        "positive": _columns([snapshot.positive for snapshot in snapshots]),
        "negative": _columns([snapshot.negative for snapshot in snapshots]),
    }


def _columns(sides: Sequence[ScoreSummary | None]) -> dict[str, list[Any]]:
    return {
        "counts": [side and side.counts for side in sides],
        "mean": [side and rounded(side.mean) for side in sides],
        "std": [side and rounded(side.std) for side in sides],
    }


def _axes(packed: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shared limits: steps, the occupied scores, and the densities' top, which the rare peaks of a start are above."""
    first, last = min(run["step"][0] for run in packed), max(run["step"][-1] for run in packed)
    low, high, peaks, least = 1.0, -1.0, [], math.inf
    for run in packed:
        edges = run["edges"]
        widths = [above - below for below, above in pairwise(edges)]
        for counts in filter(None, run["positive"]["counts"] + run["negative"]["counts"]):
            occupied = [place for place, count in enumerate(counts) if count]
            low, high = min(low, edges[occupied[0]]), max(high, edges[occupied[-1] + 1])
            densities = [counts[place] / (sum(counts) * widths[place]) for place in occupied]
            peaks.append(max(densities))
            least = min(least, *densities)
    peak = sorted(peaks)[math.ceil(0.95 * len(peaks)) - 1]
    return {"first": first, "last": max(last, first + 1), "low": low, "high": high, "peak": peak, "floor": least / 2}


def _heat_map(pairing: Pairing, axes: dict[str, float]) -> dict[str, Any]:
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


def _histogram(axes: dict[str, float], log: bool) -> dict[str, Any]:
    """Both densities at the chosen step, and their means as rules; `top` grows for a peak above the shared one."""
    floor = axes["floor"] if log else 0.0
    across = alt.Scale(domain=[axes["low"], axes["high"]], nice=False, zero=False)
    up = alt.Scale(type="log" if log else "linear", domainMin=floor, domainMax=alt.ExprRef("top"), nice=False)
    colour = alt.Color(
        "pairs:N",
        scale=alt.Scale(domain=list(PAIRINGS), range=["theme:positive", "theme:negative"]),
        legend=alt.Legend(title=None, orient="top", symbolType="square"),
    )
    x = alt.X("low:Q", title=SCORE, scale=across)
    tens = [10.0**power for power in range(math.ceil(math.log10(axes["floor"])), 3)]
    y_axis = alt.Axis(format="~g", values=tens) if log else alt.Axis(tickCount=5)
    y = alt.Y("density:Q", title="density (per unit of score)", stack=None, scale=up, axis=y_axis)
    area = (
        alt.Chart(alt.NamedData(name="histogram"))
        .mark_area(interpolate="step-after", fillOpacity=0.3, line={"strokeWidth": 1.5}, clip=True)
        .encode(x=x, y=y, y2=alt.datum(floor), color=colour)
    )
    rule = alt.Chart(alt.NamedData(name="centres")).mark_rule(strokeWidth=1.5, strokeDash=[4, 3], clip=True)
    top = alt.param(name="top", value=axes["peak"])
    return chart_spec([area, rule.encode(x="mean:Q", color=colour)], height=240, parameters=[top])


def _numbers(*columns: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{column}:Q", format=".3~g") for column in columns]
