"""Report figures on scores: densities of positives and negatives, their separation and pretext accuracy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import altair as alt

from contrast.report.chart_kinds import Kind, kinds_chart
from contrast.report.charts import (
    FAR,
    SEEN,
    Axis,
    Chart,
    Figure,
    Missing,
    Table,
    axis_within,
    chart_spec,
    line_chart,
    shared_top,
)
from contrast.report.curves import STEP, Course, Line, curve, extend, has_lone_point
from contrast.report.numbers import rounded, short, thin
from contrast.report.run_record import RunRecord
from contrast.report.samples import SOME_NEGATIVES, ScoreSummary, Snapshot

__all__ = [
    "PAIRINGS",
    "heat_map",
    "histogram",
    "mean_gap",
    "pretext_accuracy",
    "score_densities",
    "score_separation",
    "sensitivity_index",
]

SCORE = "score (cosine similarity)"
Pairing = Literal["positive", "negative"]
PAIRINGS: tuple[Pairing, Pairing] = ("positive", "negative")


def heat_map(pairing: Pairing, axes: dict[str, float]) -> dict[str, Any]:
    """Heat map of score densities over training, with the means of positives and negatives as lines.

    Steps go across, scores go up, and the colour is the density. A vertical rule marks the selected step.

    Args:
        pairing: whose scores the heat map shows. The mean of the other kind is dashed.
        axes: the shared limits.
    """
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
        # each cell overlaps the next one by half a pixel: otherwise the background shows between cells
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
    """Line of a mean with an outline in the background colour, so that it is visible on any density."""
    line = alt.Chart(alt.NamedData(name="means")).encode(x="step:Q", y=f"{pairing}:Q")
    dash = [5, 4] if dashed else [1, 0]
    return [
        line.mark_line(strokeWidth=4, color="theme:card", opacity=0.85, clip=True),
        line.mark_line(strokeWidth=1.75, color=f"theme:{pairing}-mean", strokeDash=dash, clip=True),
    ]


def histogram(axes: dict[str, float], names: dict[str, str], log: bool) -> dict[str, Any]:
    """Histograms of the scores at the selected step, with their means as vertical rules.

    The page's script sets two parameters of the chart: `top`, the upper limit of the densities, which may rise above
    the shared limit for a high peak; and `shown`, the names in the legend.

    Args:
        axes: the shared limits.
        names: legend names of the histograms of subsets of the negatives, by their keys.
        log: whether the density scale is logarithmic.
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
    # A clipped peak is labelled with its height; an outline in the background colour keeps the label readable.
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


SCORE_DENSITIES_NAME, SCORE_DENSITIES_TITLE = "score-densities", "Scores of positives and negatives over training"
SCORE_DENSITIES_READING = (
    "Each column is one histogram of cosine similarities before the temperature: positives should gather near 1, and "
    "negatives should move to 0 and spread. Solid line: the mean of the pairs shown; dashed: the mean of the other "
    "kind. Choose a step with the slider, with its arrow keys, or by clicking in a map. The histograms of this step "
    "are below, each with area 1; histograms of subsets of the negatives are optional."
)
COLOURS = (
    "Colour is proportional to the square root of the density, so that thin tails are visible. The colour scale ends "
    "at the 95 % quantile of a run's peaks; with several runs at the largest of these quantiles, but at most three "
    "times the smallest. Higher densities have the last colour, and a histogram that is cut off shows its peak as a "
    "number. Scores outside the bins are counted in the end bins."
)
MOST_SNAPSHOTS = 240
"""Largest number of snapshots on the page per run."""
NAMES = {
    "hardest": "10 hardest negatives",
    "same_class": "negatives of the query's class",
    "mined": "mined negatives",
    "pair_mix": "mixes of two negatives",
    "query_mix": "mixes with the query",
    "synthetic": "all mixes",
    "own": "own negatives of a query",
}
"""Names on the page of the histograms of subsets of the negatives."""


def score_densities(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: score densities of positives and negatives over training, with histograms of a selected step.

    All runs share axes and colours, so that they can be compared. The page carries the histograms once, as counts, and
    its script computes the data of the charts.
    """
    shown = [run for run in runs if run.snapshots]
    if not shown:
        return Missing(
            SCORE_DENSITIES_NAME,
            SCORE_DENSITIES_TITLE,
            "scores.jsonl has no histograms yet: they are written while a run trains.",
        )
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
    notes.extend(_denser(packed, axes["peak"]))
    notes.extend(note for run in runs for note in run.start_notes)
    charts = (
        Chart("positive", heat_map("positive", axes), "Positive pairs"),
        Chart("negative", heat_map("negative", axes), "Negative pairs"),
        Chart("linear", histogram(axes, NAMES, log=False), "Histograms at this step"),
        Chart("log", histogram(axes, NAMES, log=True), "Histograms at this step"),
    )
    extra = {"runs": packed, "names": NAMES, "peak": axes["peak"], "floor": axes["floor"], "far": FAR}
    return Figure(
        SCORE_DENSITIES_NAME,
        SCORE_DENSITIES_TITLE,
        SCORE_DENSITIES_READING,
        charts,
        {},
        tuple(notes),
        "score_densities.html",
        extra,
    )


def _spread(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Sample at most `MOST_SNAPSHOTS` snapshots, evenly spread, with the first and the last."""
    if len(snapshots) <= MOST_SNAPSHOTS:
        return list(snapshots)
    last = len(snapshots) - 1
    return [snapshots[round(place * last / (MOST_SNAPSHOTS - 1))] for place in range(MOST_SNAPSHOTS)]


def _packed(run: RunRecord, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """Pack the snapshots of a run as columns; the page's script computes the data of the charts from them."""
    some = _told_apart(snapshots)
    return {
        "name": run.name,
        "edges": run.edges,
        "step": [snapshot.step for snapshot in snapshots],
        "epoch": [snapshot.epoch for snapshot in snapshots],
        "positive": _columns([snapshot.positive for snapshot in snapshots]),
        "negative": _columns([snapshot.negative for snapshot in snapshots]),
        "some": list(some),
        **{name: _columns(sides) for name, sides in some.items()},
    }


def _told_apart(snapshots: Sequence[Snapshot]) -> dict[str, list[ScoreSummary | None]]:
    """Histograms of subsets of the negatives, without duplicates.

    A subset is left out where its histograms equal those of another one in every snapshot, for example all mixes in a
    run with a single kind of mix.
    """
    found: dict[str, list[ScoreSummary | None]] = {}
    for name in SOME_NEGATIVES:
        sides = [snapshot.some.get(name) for snapshot in snapshots]
        known = ([snapshot.negative for snapshot in snapshots], *found.values())
        if any(sides) and sides not in known:
            found[name] = sides
    return found


def _columns(sides: Sequence[ScoreSummary | None]) -> dict[str, list[Any]]:
    return {
        "counts": [side and side.counts for side in sides],
        "mean": [side and rounded(side.mean) for side in sides],
        "std": [side and rounded(side.std) for side in sides],
    }


def _axes(packed: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Shared limits of all runs: steps, scores that occur, and densities.

    Rare peaks and collapsed runs may exceed the upper limit of the densities.
    """
    first, last = min(run["step"][0] for run in packed), max(run["step"][-1] for run in packed)
    low, high, tops, least = 1.0, -1.0, [], math.inf
    for run in packed:
        peaks = _peaks(run)
        tops.append(sorted(peaks)[math.ceil(0.95 * len(peaks)) - 1])
        edges = run["edges"]
        widths = [above - below for below, above in pairwise(edges)]
        for counts in filter(None, run["positive"]["counts"] + run["negative"]["counts"]):
            occupied = [place for place, count in enumerate(counts) if count]
            low, high = min(low, edges[occupied[0]]), max(high, edges[occupied[-1] + 1])
            densities = [counts[place] / (sum(counts) * widths[place]) for place in occupied]
            least = min(least, *densities)
    peak = shared_top(tops)
    return {"first": first, "last": max(last, first + 1), "low": low, "high": high, "peak": peak, "floor": least / 2}


def _peaks(run: dict[str, Any]) -> list[float]:
    """The highest density of each histogram."""
    widths = [above - below for below, above in pairwise(run["edges"])]
    return [
        max(count / (sum(counts) * width) for count, width in zip(counts, widths, strict=True))
        for counts in filter(None, run["positive"]["counts"] + run["negative"]["counts"])
    ]


def _denser(packed: Sequence[dict[str, Any]], peak: float) -> list[str]:
    """Notes on runs with histograms that exceed the colour scale."""
    notes = []
    for run in packed:
        peaks = _peaks(run)
        beyond = [value for value in peaks if value > SEEN * peak]
        if beyond:
            notes.append(
                f"{run['name']}: {len(beyond):,} of {len(peaks):,} histograms are denser than the scale's end of "
                f"{short(round(peak, 3))}, up to {short(round(max(beyond), 3))}."
            )
    return notes


SCORE_SEPARATION_NAME, SCORE_SEPARATION_TITLE = "score-separation", "Separation of positives from negatives"
SCORE_SEPARATION_READING = (
    "Gap: the mean positive minus the mean negative score; at 0 the means are equal. d′: the gap divided by the "
    "pooled standard deviation, √((σ₊² + σ₋²) / 2). AUC: the probability that a random positive scores above a random "
    "negative, over all queries. Overlap: the area that both histograms share, 1 for equal histograms."
)
SCORE_SEPARATION_REASON = (
    "The figure needs mean positive and negative scores: none are recorded yet, or the method has no negatives."
)
RANKED = (
    Course("auc", "Area under the curve", "AUC", (Line("AUC", ("separation", "auc")),)),
    Course("overlap", "Overlap", "shared area", (Line("overlap", ("separation", "overlap")),), zero=True),
)


def mean_gap(snapshot: Snapshot) -> float | None:
    """Gap of the mean scores: ``mean₊ − mean₋``, in units of cosine similarity; None where a side is missing."""
    positive, negative = snapshot.positive, snapshot.negative
    if positive is None or negative is None or positive.mean is None or negative.mean is None:
        return None
    return positive.mean - negative.mean


def sensitivity_index(snapshot: Snapshot) -> float | None:
    """Sensitivity index d′ of positive against negative scores.

        d′ = (mean₊ − mean₋) / √((std₊² + std₋²) / 2)

    Args:
        snapshot: the score histograms of one step.

    Returns:
        The index. None where a side is missing, or where both standard deviations are zero.

    Source: Green and Swets, Signal Detection Theory and Psychophysics, 1966; the form for unequal variances.
    """
    gap, positive, negative = mean_gap(snapshot), snapshot.positive, snapshot.negative
    if gap is None or positive is None or negative is None or positive.std is None or negative.std is None:
        return None
    spread = math.sqrt((positive.std**2 + negative.std**2) / 2)
    return gap / spread if spread > 0 else None


def score_separation(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: separation of positives from negatives over training: gap of the means, d′, AUC and overlap."""
    table: Table = {"run": [], "step": [], "gap": [], "d_prime": []}
    for run in runs:
        both = [snapshot for snapshot in run.snapshots if mean_gap(snapshot) is not None]
        for place in thin([mean_gap(snapshot) for snapshot in both]):
            table["run"].append(run.name)
            table["step"].append(both[place].step)
            table["gap"].append(rounded(mean_gap(both[place])))
            table["d_prime"].append(rounded(sensitivity_index(both[place])))
    if not table["run"]:
        return Missing(SCORE_SEPARATION_NAME, SCORE_SEPARATION_TITLE, SCORE_SEPARATION_REASON)
    names = [run.name for run in runs]
    notes = tuple(f"{name}: no positive and negative scores yet." for name in names if name not in table["run"])
    step = Axis("step", "training step", ",d")
    gap, of_gap = axis_within(Axis("gap", "gap of the means (cosine similarity)", "~g", zero=True), table)
    index, of_index = axis_within(Axis("d_prime", "d′ (standard deviations)", "~g", zero=True), table)
    beyond = [*of_gap, *of_index]
    charts = [
        Chart(
            "gap", line_chart("separation", step, gap, names, points=has_lone_point(table, "gap")), "Gap of the means"
        ),
        Chart(
            "d-prime",
            line_chart("separation", step, index, names, points=has_lone_point(table, "d_prime")),
            "Sensitivity index d′",
        ),
    ]
    tables = {"separation": table}
    for part in RANKED:
        beyond += part.add(runs, charts, tables)
    starts = [note for run in runs for note in run.start_notes]
    return Figure(
        SCORE_SEPARATION_NAME,
        SCORE_SEPARATION_TITLE,
        SCORE_SEPARATION_READING,
        tuple(charts),
        tables,
        (*notes, *starts, *dict.fromkeys(beyond)),
    )


PRETEXT_ACCURACY_NAME, PRETEXT_ACCURACY_TITLE = "pretext-accuracy", "Pretext accuracy"
PRETEXT_ACCURACY_READING = (
    "Share of queries whose positive scores above all negatives of the query; with mixes, also against real negatives "
    "only. This accuracy depends on the number of negatives and says nothing about classes. Near 1 from the start: "
    "the task is too easy. Near 0 throughout: the query's own sample may be among its negatives. Only some queries of "
    "a step are evaluated (scores.queries)."
)
PRETEXT_ACCURACY_REASON = (
    "No row of metrics.jsonl has proxy/accuracy: the method has no negatives, or scores are not recorded."
)
PRETEXT_ACCURACY_KINDS = {
    "proxy/accuracy": Kind("all negatives", "negative"),
    "proxy/accuracy_without_mixes": Kind("real negatives only", "run-0"),
}


def pretext_accuracy(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: pretext accuracy over training, against all negatives and against real negatives only."""
    table: Table = {}
    for run in runs:
        for key, kind in PRETEXT_ACCURACY_KINDS.items():
            for step, value in curve(run.metrics, key):
                extend(table, run=run.name, kind=kind.name, step=step, value=value)
    if not table:
        return Missing(PRETEXT_ACCURACY_NAME, PRETEXT_ACCURACY_TITLE, PRETEXT_ACCURACY_REASON)
    kinds = [kind for kind in PRETEXT_ACCURACY_KINDS.values() if kind.name in table["kind"]]
    share = Axis("value", "share of queries", ".0%", zero=True)
    names = [run.name for run in runs]
    spec = kinds_chart("pretext", STEP, share, names, kinds, points=has_lone_point(table))
    notes = tuple(f"{run.name}: no pretext accuracy recorded." for run in runs if run.name not in table["run"])
    return Figure(
        PRETEXT_ACCURACY_NAME,
        PRETEXT_ACCURACY_TITLE,
        PRETEXT_ACCURACY_READING,
        (Chart("pretext", spec),),
        {"pretext": table},
        notes,
    )
