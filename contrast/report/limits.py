"""Limits of axes and colour scales that a few far values do not set; what lies beyond is clipped, and notes say so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from contrast.report.figure import Table
from contrast.report.lines import Axis
from contrast.report.numbers import short

__all__ = ["FAR", "SEEN", "axis_within", "shared_top"]

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
