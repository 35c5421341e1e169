"""Evidence that the rules of the doctor read, and the findings that they return."""

from __future__ import annotations

import copy
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from contrast.checked_text import parse_yaml
from contrast.errors import InputError
from contrast.records import (
    MOST_BYTES,
    MOST_METRICS,
    last_row_per_step,
    read_object,
    read_some_rows,
    read_text,
    rows_from,
)
from contrast.run_folder import RunFolder
from contrast.runs.next_command import how_to_go_on

__all__ = ["SEVERITIES", "Evidence", "Finding", "ReadRows", "Severity", "samples_per_step"]

Severity = Literal["problem", "warning"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning")
"""Severities, the worst first. Results of a run with a problem are worthless; with a warning they may be valid."""


@dataclass(frozen=True)
class Finding:
    """Finding of the doctor: one thing that is wrong with a run.

    Attributes:
        rule: name of the rule. The documentation has a paragraph on each rule.
        severity: "problem" or "warning".
        seen: the problem, in one sentence with the number behind it.
        fix: the fix, in one sentence.
    """

    rule: str
    severity: Severity
    seen: str
    fix: str


ReadRows = tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
"""Rows of scores.jsonl and rows of metrics.jsonl, one row per step, in order of step."""


@dataclass(frozen=True)
class Evidence:
    """Content of a run folder that the rules read. Missing files are empty.

    Attributes:
        config: the resolved configuration.
        observed: rows of scores.jsonl, in order of step.
        metrics: rows of metrics.jsonl, in order of step.
        status: content of status.json.
        duplicates: result of `contrast duplicates`, if it was run.
        summary: content of summary.json, which only the demo writes.
        evaluations: contents of the JSON files in ``evaluations/``, in order of file name.
        done: share of the run that is done, in [0, 1]. None computes it from `status`.
        input: content of input.json: statistics of raw samples.
        inactive: content of inactive.json: the pieces of the run that never act.
        next: how to continue the run, as a phrase with a command.
        damaged: names of files that exist but cannot be read.
    """

    config: dict[str, Any]
    observed: Sequence[dict[str, Any]]
    metrics: Sequence[dict[str, Any]]
    status: dict[str, Any]
    duplicates: dict[str, Any]
    summary: dict[str, Any]
    evaluations: Sequence[dict[str, Any]] = ()
    done: float | None = None
    input: dict[str, Any] = field(default_factory=dict)
    inactive: dict[str, Any] = field(default_factory=dict)
    next: str = ""
    damaged: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: RunFolder, done: float | None = None, rows: ReadRows | None = None) -> Evidence:
        """Read a run folder; a file that cannot be read counts as missing.

        Args:
            folder: the run folder.
            done: share of the run that is done, in [0, 1]. None computes it from status.json.
            rows: rows of scores.jsonl and of metrics.jsonl, if the caller has already read them.
        """
        observed, metrics = rows or (_rows(folder.scores, MOST_BYTES), _rows(folder.metrics, MOST_METRICS))
        return cls(
            config=_loaded(folder.config),
            observed=observed,
            metrics=metrics,
            status=_loaded(folder.status),
            duplicates=_loaded(folder.duplicates / "duplicates.json"),
            summary=_loaded(folder.summary),
            evaluations=[_loaded(path) for path in sorted(folder.evaluations.glob("*.json"))],
            done=done,
            input=_loaded(folder.input),
            inactive=_loaded(folder.inactive),
            next=how_to_go_on(folder),
            damaged=tuple(path.relative_to(folder.path).as_posix() for path in _files(folder) if _is_damaged(path)),
        )

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]; 1 where it is not known."""
        if self.done is not None:
            return self.done
        step, steps = _number(self.status.get("step")), _number(self.status.get("steps"))
        return min(1.0, step / steps) if step is not None and steps else 1.0

    def setting(self, *path: str) -> Any:
        """Value in the configuration at a path of keys; None where there is none."""
        return _at(self.config, path)

    def class_of(self, *path: str) -> str:
        """Class name, without its module, that is configured at a path of keys; empty where there is none."""
        name = self.setting(*path, "class_path")
        return name.rpartition(".")[2] if isinstance(name, str) else ""

    @property
    def samples_per_step(self) -> int | None:
        """Samples per optimiser step, from the configuration; None where it is not known."""
        return samples_per_step(self.config)

    def first(self, *path: str) -> float | None:
        """Number at a path of keys in the first row of scores.jsonl; None where it is missing."""
        return _number(_at(self.observed[0], path)) if self.observed else None

    def settled(self, *path: str) -> float | None:
        """Median of a recorded number near the end: over the last tenth of the rows of scores.jsonl, at least three.

        Args:
            path: keys of the number in a row, from the outside in.

        Returns:
            The median. None where no such row has the number.
        """
        found = [value for row in self.observed[-max(3, len(self.observed) // 10) :] if (value := _value(row, path))]
        return statistics.median(value[0] for value in found) if found else None

    def scalars(self, name: str) -> list[float]:
        """Finite values of a metric, in order of step."""
        return [value for row in self.metrics if (value := _number(row.get(name))) is not None]

    def of_random_weights(self, name: str) -> float | None:
        """Value of a metric before the first step, that is, with random weights; None where it was not measured."""
        first = self.metrics[0] if self.metrics else {}
        return _number(first.get(name)) if first.get("step") == 0 else None

    def newest_evaluations(self) -> dict[str, dict[str, Any]]:
        """Newest evaluation of each command, by the name of the command."""
        found: dict[str, dict[str, Any]] = {}
        for each in sorted(self.evaluations, key=lambda each: str(each.get("created") or "")):
            if isinstance(each.get("command"), str):
                found[each["command"]] = each
        return found

    def summarised(self, *path: str) -> float | None:
        """Number at a path of keys in summary.json; None where it is missing."""
        return _number(_at(self.summary, path))


def samples_per_step(config: dict[str, Any]) -> int | None:
    """Number of samples per optimiser step: batch size × devices × nodes × accumulated batches.

    `auto` counts as one device, because the configuration does not tell how many devices it became.

    Args:
        config: the resolved configuration.

    Returns:
        The number of samples. None where the configuration has no batch size.
    """
    batch, devices = _at(config, ("data", "init_args", "batch_size")), _at(config, ("trainer", "devices"))
    if not _is_count(batch):
        return None
    if isinstance(devices, list):
        devices = len(devices)
    others = (_at(config, ("trainer", name)) for name in ("num_nodes", "accumulate_grad_batches"))
    return int(batch) * math.prod(int(each) for each in (devices, *others) if _is_count(each))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _value(row: dict[str, Any], path: Sequence[str]) -> tuple[float] | None:
    """Number at a path of keys, in a tuple, so that 0 is truthy; None where it is missing."""
    value = _number(_at(row, path))
    return None if value is None else (value,)


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if isinstance(value, list):
            place = int(name) if name.removeprefix("-").isdecimal() else len(value)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else None


def _rows(path: Path, most_bytes: int) -> list[dict[str, Any]]:
    try:
        rows, _ = read_some_rows(path, most_bytes)
    except (OSError, RecursionError):
        return []
    return last_row_per_step([row for row in rows if _number(row.get("step")) is not None])


def _files(folder: RunFolder) -> list[Path]:
    """All text files of a run that the doctor and the report read: configuration, JSON objects and rows."""
    objects = [folder.status, folder.summary, folder.input, folder.inactive, folder.duplicates / "duplicates.json"]
    rows = [folder.scores, folder.metrics, folder.bank, folder.history]
    return [folder.config, *objects, *sorted(folder.evaluations.glob("*.json")), *rows]


def _is_damaged(path: Path) -> bool:
    """Whether a file exists but cannot be read; a file of rows is damaged if not one row is complete."""
    try:
        if not path.exists():
            return False
        if path.suffix == ".jsonl":
            return path.is_file() and path.stat().st_size > 0 and next(rows_from(path, 0), None) is None
    except (OSError, RecursionError):
        return True
    return read_object(path) is None if path.suffix == ".json" else not _of_yaml(read_text(path) or "")


def _loaded(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return read_object(path) or {}
    return copy.deepcopy(_of_yaml(read_text(path) or ""))


@lru_cache(maxsize=1)  # a run that trains is read about twenty times with the same configuration
def _of_yaml(text: str) -> dict[str, Any]:
    try:
        found = parse_yaml(text)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}
