"""Densities of positive and negative scores over training, and both histograms at a chosen step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from contrast.report.figure import Chart, Figure, Missing
from contrast.report.limits import FAR, SEEN, shared_top
from contrast.report.numbers import rounded, short
from contrast.report.run_record import RunRecord
from contrast.report.score_charts import PAIRINGS, heat_map, histogram
from contrast.report.snapshots import SOME_NEGATIVES, ScoreSummary, Snapshot

__all__ = ["score_densities"]

NAME, TITLE = "score-densities", "Scores of positives and negatives over training"
READING = (
    "Each column is one histogram of cosine similarities before the temperature: positives should gather near 1 and "
    "negatives drift to 0 and spread. Solid line: the mean of the pairs shown; dashed: the mean of the other kind. "
    "Choose a step with the slider, with the arrow keys on it, or by clicking in a map; below, both histograms of that "
    "step, and by choice those of some of the negatives, each with an area of 1."
)
COLOURS = (
    "Colour goes with the square root of the density, so that thin tails show, and ends where 95 % of a run's "
    "snapshots have their peak or below; of several runs at the highest such end, but at most three times the lowest "
    "of theirs. What is denser has the last colour, and a histogram that is cut off says its peak. Scores "
    "outside the bins are counted in the end bins."
)
MOST_SNAPSHOTS = 240
NAMES = {
    "hardest": "10 hardest negatives",
    "same_class": "negatives of the query's class",
    "mined": "mined negatives",
    "pair_mix": "mixes of two negatives",
    "query_mix": "mixes with the query",
    "synthetic": "all mixes",
    "own": "all negatives of one query's own",
}
"""What the histograms of some negatives are called on the page."""


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
    notes.extend(_denser(packed, axes["peak"]))
    notes.extend(note for run in runs for note in run.start_notes)
    charts = (
        Chart("positive", heat_map("positive", axes), "Positive pairs"),
        Chart("negative", heat_map("negative", axes), "Negative pairs"),
        Chart("linear", histogram(axes, NAMES, log=False), "Histograms at this step"),
        Chart("log", histogram(axes, NAMES, log=True), "Histograms at this step"),
    )
    extra = {"runs": packed, "names": NAMES, "peak": axes["peak"], "floor": axes["floor"], "far": FAR}
    return Figure(NAME, TITLE, READING, charts, {}, tuple(notes), "score_densities.html", extra)


def _spread(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    if len(snapshots) <= MOST_SNAPSHOTS:
        return list(snapshots)
    last = len(snapshots) - 1
    return [snapshots[round(place * last / (MOST_SNAPSHOTS - 1))] for place in range(MOST_SNAPSHOTS)]


def _packed(run: RunRecord, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """A run's snapshots by column; the page's script makes the charts' rows of them."""
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
    """Histograms of some negatives; without those that are another one throughout, as all mixes where one kind is."""
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
    """Shared limits: steps, the occupied scores, and the densities' top, which rare peaks and collapsed runs exceed."""
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
    """Which runs have snapshots that the scale of colours does not reach."""
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
