"""The list of runs: one row of HTML each, with a stamp that changes when the row does."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from markupsafe import Markup

from contrast.dashboard.progress import Progress, Reached, progress
from contrast.dashboard.runs_folder import RunsFolder, Stamps
from contrast.dashboard.summary import Summary, summarise
from contrast.dashboard.templates import rendered
from contrast.run_folder import RunFolder

__all__ = ["Listing", "Row"]

LONG, SHARE = 0.1, 20
"""A run whose files take over `LONG` seconds to read is read so seldom that it takes 1 / `SHARE` of the time."""


@dataclass(frozen=True)
class Row:
    """One run in the list.

    Args:
        name: of the run.
        html: a table row.
        stamp: changes with the row.
        order: rows are listed by it: what trains first, the newest first.
    """

    name: str
    html: str
    stamp: str
    order: tuple[bool, float]


@dataclass(frozen=True)
class _Reading:
    stamps: Stamps
    summary: Summary
    when: float
    took: float

    def holds(self, stamps: Stamps) -> bool:
        resting = self.took > LONG and time.monotonic() - self.when < SHARE * self.took
        return resting or _contents(stamps) == _contents(self.stamps)


class Listing:
    """All runs of a folder; files that did not change are not read again.

    Args:
        runs: the folder.
    """

    def __init__(self, runs: RunsFolder) -> None:
        self.runs = runs
        self._readings: dict[str, _Reading] = {}
        self._lock = threading.Lock()

    def rows(self) -> list[Row]:
        """Every run as it is now."""
        with self._lock:
            names = self.runs.names()
            self._readings = {name: reading for name, reading in self._readings.items() if name in set(names)}
            found = [row for name in names if (row := self._row(name)) is not None]
        return sorted(found, key=lambda row: row.order)

    def standing(self, names: Sequence[str]) -> list[Progress] | None:
        """Where these runs are; None where one of them is not there any more."""
        with self._lock:
            found = [self._looked_at(name) for name in names]
        return [each[1] for each in found if each is not None] if all(found) else None

    def _row(self, name: str) -> Row | None:
        looked = self._looked_at(name)
        if looked is None:
            return None
        summary, where, stamps = looked
        changed = max(when for when, _ in stamps.values()) / 1e9
        html = rendered(
            "row.html",
            {
                "name": name,
                "address": f"/run/{quote(name)}",
                "summary": summary,
                "where": where,
                "changed": int(changed),
                "changed_words": datetime.fromtimestamp(changed, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            },
        )
        trains = where.standing in ("starting", "running")
        newest = datetime.fromisoformat(where.started).timestamp() if trains else changed
        return Row(name, html, hashlib.sha256(html.encode()).hexdigest()[:12], (not trains, -newest))

    def _looked_at(self, name: str) -> tuple[Summary, Progress, Stamps] | None:
        run = self.runs.run(name)
        stamps = None if run is None else self.runs.stamps(run)
        if run is None or stamps is None:
            return None
        try:
            summary, why = self._summary(name, run, stamps), ""
        except FileNotFoundError:  # deleted meanwhile
            return None
        except Exception as error:  # of whatever kind: one run's files never take the others off the list
            summary = Summary({}, None, Markup(""), "", Reached())
            why = f"its files cannot be read ({type(error).__name__})"
        where = progress(run, summary.reached, datetime.now(UTC))
        return summary, dataclasses.replace(where, note=why) if why else where, stamps

    def _summary(self, name: str, run: RunFolder, stamps: Stamps) -> Summary:
        reading = self._readings.get(name)
        if reading is None or not reading.holds(stamps):
            begun = time.monotonic()
            summary = summarise(run)
            reading = _Reading(stamps, summary, time.monotonic(), time.monotonic() - begun)
            self._readings[name] = reading
        return reading.summary


def _contents(stamps: Stamps) -> Stamps:
    """Without the status, which changes every few seconds and is read each time."""
    return {name: stamp for name, stamp in stamps.items() if name != "status.json"}
