"""Summary of one run for the list of runs: status, progress, accuracy and a small curve."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from contrast.doctor import best_reference
from contrast.records import rows_from
from contrast.report.chart_kinds import means, sparkline
from contrast.report.figures.training import MAJORITY, RAW, online_references
from contrast.report.numbers import number, percent, points
from contrast.report.overview import data_in_words
from contrast.report.run_record import Evaluation, read_config, read_evaluations
from contrast.report.settings import run_facts
from contrast.run_folder import RunFolder
from contrast.runs.status import Standing, read_status

__all__ = ["UNREADABLE", "Accuracy", "Progress", "Reached", "Scalars", "Summary", "progress", "summarise"]

MEANINGS = {
    "killed": "its process has ended without a final status",
    "silent": "no update for ten minutes",
    "unknown": "no status.json in its folder",
}


@dataclass(frozen=True)
class Reached:
    """Progress of a run according to its rows, for a run without a status.

    Attributes:
        step: the last recorded step.
        epoch: the last recorded epoch, from 0.
        epochs: number of epochs that the configuration plans.
    """

    step: int | None = None
    epoch: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Progress:
    """Status and progress of a run, as the list and the bar above a report page show them.

    Attributes:
        standing: state of the run; `unknown` where its folder has no status.
        step: number of optimiser steps done.
        steps: number of optimiser steps planned.
        epoch: the current epoch, from 1.
        epochs: number of epochs planned.
        note: reason for the state, in one line. May be empty.
        started: start time of the process, ISO 8601. Empty where it is not known.
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
        """Share of the run that is done, in [0, 1]; None where it is not known."""
        done, planned = (self.step, self.steps) if self.steps else (self.epoch, self.epochs)
        return None if done is None or not planned else min(1.0, done / planned)

    @property
    def words(self) -> str:
        """Progress in words: "step 1,200 of 20,000 · epoch 3 of 50"; unknown parts are left out."""
        counts = (("step", self.step, self.steps), ("epoch", self.epoch, self.epochs))
        known = [
            (name, f"{done:,}", f" of {planned:,}" if planned else "")
            for name, done, planned in counts
            if done is not None
        ]
        return " · ".join(f"{name} {done}{of}" for name, done, of in known)

    def as_json(self) -> dict[str, Any]:
        """All fields, `share` and `words`, as JSON values for the bar above a report page."""
        return {**asdict(self), "share": self.share, "words": self.words}


def progress(run: RunFolder, reached: Reached, now: datetime) -> Progress:
    """Read the status of a run and compute its progress.

    Args:
        run: the run folder.
        reached: progress according to the rows, for a run without a status.
        now: the current time, with a time zone.
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


UNREADABLE = (OSError, RecursionError, OverflowError, ValueError)
"""Errors of a run that was deleted in the meantime, cannot be read, or is malformed (for example nested too deep)."""

UNMEASURED = "no baselines measured"
LEAST = 0.04
"""Smallest range of the accuracy curve, as a share: smaller differences are mostly noise of the test set."""
KINDS = {"probe": "linear probe", "knn": "kNN"}


@dataclass(frozen=True)
class Accuracy:
    """Main accuracy of a run in the list.

    Attributes:
        share: the accuracy in [0, 1].
        kind: the evaluation that measured it, for example "linear probe".
        against: difference to the best baseline in words, or a remark that no baseline was measured.
        below: whether the accuracy is below that baseline.
        beside: another accuracy in words. May be empty.
        data: description of the data sets. May be empty.
    """

    share: float
    kind: str
    against: str
    below: bool = False
    beside: str = ""
    data: str = ""

    @property
    def shown(self) -> str:
        """The accuracy in per cent."""
        return percent(self.share)


@dataclass(frozen=True)
class Summary:
    """Content of a row of the list, except the progress of the run.

    Attributes:
        facts: method, loss, data and other settings by label, as far as the configuration names them.
        accuracy: main accuracy. None where there is none yet.
        curve: sparkline of the accuracy or of the loss. Empty without values.
        curve_label: description of the curve, with its first and last value.
        reached: progress according to the rows.
    """

    facts: dict[str, str]
    accuracy: Accuracy | None
    curve: Markup
    curve_label: str
    reached: Reached


class Scalars:
    """Incremental reader of the columns of metrics.jsonl that the list shows: each call reads only new rows.

    Args:
        path: the file metrics.jsonl, which need not exist yet.
    """

    KEYS = ("train/loss", "online/knn_top1", RAW, MAJORITY, "epoch")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clear()

    def _clear(self) -> None:
        self._file, self._place, self.rows_read = -1, 0, 0
        self._steps = array("d")
        self._columns = {key: (array("d"), array("d")) for key in self.KEYS}  # the steps and the values of each column

    def follow(self) -> None:
        """Read the rows that were appended since the last call.

        A file that was replaced or has shrunk is read from its start.

        Raises:
            OSError: if the file cannot be read.
        """
        if not self.path.is_file():
            self._clear()
            return
        seen = self.path.stat()
        if seen.st_ino != self._file or seen.st_size < self._place:
            self._clear()
            self._file = seen.st_ino
        for place, row in rows_from(self.path, self._place):
            if place is None:  # the line is not complete yet
                break
            self._place = place
            self.rows_read += 1
            self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        if isinstance(resumed := row.get("resumed"), int):
            self._go_back(resumed)
            return
        step = number(row.get("step"))
        if step is None:
            return
        self._steps.append(step)
        for key, (steps, values) in self._columns.items():
            if key in row:
                steps.append(step)
                values.append(math.nan if (value := number(row[key])) is None else value)

    def _go_back(self, step: int) -> None:
        """Drop the rows after a step: a run that resumed there writes them again."""
        self._steps = array("d", (each for each in self._steps if each <= step))
        for key, (steps, values) in self._columns.items():
            kept = [place for place, each in enumerate(steps) if each <= step]
            self._columns[key] = (array("d", (steps[at] for at in kept)), array("d", (values[at] for at in kept)))

    @property
    def last_step(self) -> float | None:
        """Largest step of all rows; None where there are no rows."""
        return float(np.array(self._steps).max()) if self._steps else None

    def finite(self, key: str) -> list[float]:
        """Finite values of a column in order of step; of several values for a step, the last one written."""
        steps, values = map(np.array, self._columns[key])
        if (np.diff(steps) <= 0).any():
            order = np.argsort(steps, kind="stable")
            last = np.append(np.diff(steps[order]) > 0, True)
            values = values[order][last]
        found: list[float] = values[np.isfinite(values)].tolist()
        return found

    def rows_of(self, *keys: str) -> list[dict[str, float]]:
        """First value of each named column, as rows of metrics.jsonl in order of step; empty columns are left out."""
        firsts = [(steps[0], key, values[0]) for key in keys for steps, values in [self._columns[key]] if steps]
        return [{"step": step, key: value} for step, key, value in sorted(firsts)]


def summarise(run: RunFolder, scalars: Scalars | None = None) -> Summary:
    """Summarise a run for the list; missing and incomplete data are left out.

    Args:
        run: the run folder.
        scalars: reader of its metrics.jsonl from an earlier call, which then reads only new rows.

    Raises:
        UNREADABLE: one of these errors, if the run cannot be read.
    """
    config = read_config(run.config, [])
    scalars = scalars or Scalars(run.metrics)
    scalars.follow()
    knn = scalars.finite("online/knn_top1")
    curve, label = _curve(knn, scalars.finite("train/loss"))
    return Summary(
        facts=run_facts(config),
        accuracy=_accuracy(read_evaluations(run.evaluations, []), scalars),
        curve=curve,
        curve_label=label,
        reached=_reached(config, scalars),
    )


def _accuracy(evaluations: Sequence[Evaluation], scalars: Scalars) -> Accuracy | None:
    """Main accuracy: the newest linear probe, else the newest kNN, else the last online kNN."""
    found = {}
    for command, kind in KINDS.items():
        measured = [each for each in evaluations if each.command == command and each.top1 is not None]
        if measured:
            newest = max(measured, key=lambda each: (each.created, each.top1))
            data = "; ".join(data_in_words(newest.protocol))
            found[command] = Accuracy(newest.top1 or 0.0, kind, *_against(newest), data=data)
    if "probe" in found and "knn" in found:
        return replace(found["probe"], beside=f"kNN {found['knn'].shown}")
    if found:
        return next(iter(found.values()))
    gauged = scalars.finite("online/knn_top1")
    return Accuracy(gauged[-1], "online kNN", *_while_training(gauged[-1], scalars)) if gauged else None


def _against(evaluation: Evaluation) -> tuple[str, bool]:
    best = best_reference(list(evaluation.references))
    return (UNMEASURED, False) if best is None else (f"{points(best.difference)} against {best.words}", best.beaten)


def _while_training(share: float, scalars: Scalars) -> tuple[str, bool]:
    found = online_references(scalars.rows_of("online/knn_top1", RAW, MAJORITY))
    if not found:
        return UNMEASURED, False
    name, best = max(found.items(), key=lambda each: each[1])
    return f"{points(share - best)} against {name}", share < best


def _curve(knn: Sequence[float], logged: Sequence[float]) -> tuple[Markup, str]:
    if len(knn) > 1:
        label = f"online kNN {100 * knn[0]:.0f} → {100 * knn[-1]:.0f}\N{NO-BREAK SPACE}%"
        return sparkline(means(knn), label, LEAST), label
    losses = means(logged)
    if len(losses) < 2:
        return Markup(""), ""
    label = f"loss {losses[0]:.3g} → {losses[-1]:.3g}"
    return sparkline(losses, label), label


def _reached(config: dict[str, Any], scalars: Scalars) -> Reached:
    trainer = config.get("trainer")
    epochs = number(trainer.get("max_epochs")) if isinstance(trainer, dict) else None
    step, last = scalars.last_step, scalars.finite("epoch")[-1:]
    return Reached(
        None if step is None else int(step),
        int(last[0]) if last else None,
        int(epochs) if epochs and epochs > 0 else None,
    )
