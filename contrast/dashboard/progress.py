"""How far a run is and whether it still goes on, from its status or, where it has none, from its rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from contrast.run_folder import RunFolder
from contrast.run_status import Standing, read_status

__all__ = ["Progress", "Reached", "progress"]

MEANINGS = {
    "killed": "its process is gone without a word",
    "silent": "nothing written for ten minutes",
    "unknown": "no status.json in its folder",
}


@dataclass(frozen=True)
class Reached:
    """What the rows of a run show: the last step, its epoch from 0, and the epochs that its configuration plans."""

    step: int | None = None
    epoch: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run is, as the list and the bar above a page say it.

    Args:
        standing: what it is doing, `unknown` where its folder has no status.
        step: optimiser steps done.
        steps: optimiser steps planned.
        epoch: the epoch that it has come to, from 1.
        epochs: epochs planned.
        note: why, in one line; may be empty.
        started: when the process began, ISO 8601; empty where nobody said.
    """

    standing: Standing | Literal["unknown"]
    step: int | None
    steps: int | None
    epoch: int | None
    epochs: int | None
    note: str
    started: str

    @property
    def share(self) -> float | None:
        """How much is done, in [0, 1]."""
        done, planned = (self.step, self.steps) if self.steps else (self.epoch, self.epochs)
        return None if done is None or not planned else min(1.0, done / planned)

    @property
    def words(self) -> str:
        """ "step 1,200 of 20,000 · epoch 3 of 50", as much of it as is known."""
        counts = (("step", self.step, self.steps), ("epoch", self.epoch, self.epochs))
        known = [
            (name, f"{done:,}", f" of {planned:,}" if planned else "")
            for name, done, planned in counts
            if done is not None
        ]
        return " · ".join(f"{name} {done}{of}" for name, done, of in known)

    def as_json(self) -> dict[str, Any]:
        """For the bar above a page."""
        return {**asdict(self), "share": self.share, "words": self.words}


def progress(run: RunFolder, reached: Reached, now: datetime) -> Progress:
    """What is known of the run now.

    Args:
        run: its folder.
        reached: what its rows show, for a run without a status.
        now: with a time zone.
    """
    status = read_status(run.status)
    if status is None:
        epoch = None if reached.epoch is None else reached.epoch + 1
        return Progress("unknown", reached.step, None, epoch, reached.epochs, MEANINGS["unknown"], "")
    standing = status.standing(now)
    note = status.message or MEANINGS.get(standing, "")
    return Progress(
        standing, status.step, status.steps, status.epoch + 1, status.epochs, note, status.started
    )  # fmt: skip
