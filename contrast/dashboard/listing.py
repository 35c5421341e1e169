"""List of runs on the dashboard: one HTML table row per run, cached until its files change."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from contrast.dashboard.pages import rendered
from contrast.dashboard.runs_folder import RunsFolder, Stamps
from contrast.dashboard.summary import UNREADABLE, Progress, Reached, Scalars, Summary, progress, summarise
from contrast.doctor import Finding, examine
from contrast.run_folder import RunFolder

__all__ = ["Listing", "Row"]

ENDED = ("finished", "stopped", "failed")
MINUTE = 60.0
LONG, SHARE = 0.1, 20
"""Limits for slow runs: if reading takes over `LONG` seconds, it may use at most 1 / `SHARE` of the time."""


@dataclass(frozen=True)
class Row:
    """Row of one run in the list of runs.

    Attributes:
        name: name of the run.
        html: the table row as HTML.
        stamp: hash of the row, which changes when the row changes.
        order: sort key. Runs that train come first; within each group the newest comes first.
    """

    name: str
    html: str
    stamp: str
    order: tuple[bool, float]


@dataclass(frozen=True)
class _Reading:
    """Cached summary of a run: the stamps it was read from, when it was read, and how long that took (seconds)."""

    stamps: Stamps
    summary: Summary
    when: float
    took: float

    def holds(self, stamps: Stamps) -> bool:
        """Whether the summary is still valid for these stamps, or too expensive to be read again now."""
        resting = self.took > LONG and time.monotonic() - self.when < SHARE * self.took
        return resting or _contents(stamps) == _contents(self.stamps)


@dataclass(frozen=True)
class _Examined:
    """Cached worst finding of a run: the stamps it was read from, when it was found, and how long it took (seconds)."""

    stamps: Stamps
    finding: Finding | None
    when: float
    took: float

    def holds(self, stamps: Stamps, trains: bool) -> bool:
        """Whether the finding is still valid for these stamps.

        The rules read whole files. For a run that trains they are evaluated at most once a minute,
        and less often if they are slow.
        """
        if not trains:
            return stamps == self.stamps
        rest = max(MINUTE, SHARE * self.took)
        return time.monotonic() - self.when < rest or _contents(stamps) == _contents(self.stamps)


class Listing:
    """List of all runs of a folder; files that did not change are not read again.

    Args:
        runs: the folder of runs.
    """

    def __init__(self, runs: RunsFolder) -> None:
        self.runs = runs
        self._readings: dict[str, _Reading] = {}
        self._scalars: dict[str, Scalars] = {}
        self._examined: dict[str, _Examined] = {}
        self._ended: dict[str, tuple[Stamps, Row]] = {}
        self._lock = threading.Lock()

    def rows(self) -> list[Row]:
        """Current row of every run, in the order of the list."""
        with self._lock:
            names = self.runs.names()
            self._forget(set(names))
            found = [row for name in names if (row := self._row(name)) is not None]
        return sorted(found, key=lambda row: row.order)

    def standing(self, names: Sequence[str]) -> list[Progress] | None:
        """Current progress of the named runs; None where one of them no longer exists."""
        with self._lock:
            found = [self._summary_of(name, self.runs.seen(name)) for name in names]
        return [each[1] for each in found if each is not None] if all(found) else None

    def _forget(self, names: set[str]) -> None:
        """Drop the cached data of runs that no longer exist."""
        kept: tuple[dict[str, Any], ...] = (self._readings, self._scalars, self._examined, self._ended)
        for each in kept:
            for name in each.keys() - names:
                del each[name]

    def _row(self, name: str) -> Row | None:
        seen = self.runs.seen(name)
        # A run that has ended changes only when its files change: comparing the stamps is enough.
        if seen is not None and name in self._ended and self._ended[name][0] == seen[1]:
            return self._ended[name][1]
        looked = self._summary_of(name, seen)
        if looked is None or seen is None:
            return None
        summary, where, stamps = looked
        finding = self._worst(name, seen[0], stamps, trains=where.standing not in ENDED)
        changed = max(when for when, _ in stamps.values()) / 1e9
        html = rendered(
            "row.html",
            {
                "name": name,
                "address": f"/run/{quote(name)}",
                "summary": summary,
                "where": where,
                "finding": finding,
                "changed": int(changed),
                "changed_words": datetime.fromtimestamp(changed, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            },
        )
        trains = where.standing in ("starting", "running")
        newest = datetime.fromisoformat(where.started).timestamp() if trains else changed
        row = Row(name, html, hashlib.sha256(html.encode()).hexdigest()[:12], (not trains, -newest))
        self._ended.pop(name, None)
        if where.standing in ENDED and _contents(self._readings[name].stamps) == _contents(stamps):
            self._ended[name] = (stamps, row)
        return row

    def _worst(self, name: str, run: RunFolder, stamps: Stamps, trains: bool) -> Finding | None:
        """Worst finding of the doctor; for a run that trains it may be a minute old, or older if the rules are slow."""
        known = self._examined.get(name)
        if known is None or not known.holds(stamps, trains):
            begun = time.monotonic()
            try:
                findings = tuple(each for each in examine(run).findings if each.rule != "failed")  # the status says it
            except UNREADABLE:
                findings = ()
            now = time.monotonic()
            known = self._examined[name] = _Examined(stamps, findings[0] if findings else None, now, now - begun)
        return known.finding

    def _summary_of(self, name: str, seen: tuple[RunFolder, Stamps] | None) -> tuple[Summary, Progress, Stamps] | None:
        if seen is None:
            return None
        run, stamps = seen
        try:
            summary, why = self._summary(name, run, stamps), ""
        except FileNotFoundError:  # deleted in the meantime
            return None
        except Exception as error:  # any error: the files of one run must not hide the other runs
            summary = Summary({}, None, Markup(""), "", Reached())
            why = f"its files cannot be read ({type(error).__name__})"
        where = progress(run, summary.reached, datetime.now(UTC))
        return summary, dataclasses.replace(where, note=why) if why else where, stamps

    def _summary(self, name: str, run: RunFolder, stamps: Stamps) -> Summary:
        reading = self._readings.get(name)
        if reading is None or not reading.holds(stamps):
            begun = time.monotonic()
            summary = summarise(run, self._scalars.setdefault(name, Scalars(run.metrics)))
            reading = _Reading(stamps, summary, time.monotonic(), time.monotonic() - begun)
            self._readings[name] = reading
        return reading.summary


def _contents(stamps: Stamps) -> Stamps:
    """Stamps without status.json, which changes every few seconds and is read at every poll."""
    return {name: stamp for name, stamp in stamps.items() if name != "status.json"}
