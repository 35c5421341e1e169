"""Evidence that the doctor's rules read, and the findings they return."""

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
"""The worst first: a result of a run with a problem is not worth having; one with a warning may be."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        rule: its name; the documentation has a paragraph on each.
        severity: how bad.
        seen: one sentence with the number behind it.
        mend: one sentence, what to do.
    """

    rule: str
    severity: Severity
    seen: str
    mend: str


ReadRows = tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
"""Rows of scores.jsonl and of metrics.jsonl, one a step, in order of step."""


@dataclass(frozen=True)
class Evidence:
    """What a run folder says.

    Args:
        config: the resolved configuration.
        observed: rows of scores.jsonl in order of step.
        metrics: rows of metrics.jsonl, likewise.
        status: status.json.
        duplicates: what `contrast duplicates` found, if it was asked.
        summary: summary.json, which the demo leaves.
        input: input.json, statistics of raw samples.
        inactive: inactive.json, the pieces that never act.
        evaluations: the JSON files of `evaluations/`, by file name.
        done: the share of the run, where somebody knows it better than status.json.
        next: how to go on with the run, as a phrase with a command.
        damaged: names of files that are there and hold nothing that can be read.
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
        """Read the folder; a file that cannot be read is as one that is not there."""
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
        """The share of the run that is done; 1 where nobody knows."""
        if self.done is not None:
            return self.done
        step, steps = _number(self.status.get("step")), _number(self.status.get("steps"))
        return min(1.0, step / steps) if step is not None and steps else 1.0

    def setting(self, *path: str) -> Any:
        """What stands in the configuration, or None."""
        return _at(self.config, path)

    def class_of(self, *path: str) -> str:
        """The name of the class that is configured there, without its module; empty where there is none."""
        name = self.setting(*path, "class_path")
        return name.rpartition(".")[2] if isinstance(name, str) else ""

    @property
    def samples_per_step(self) -> int | None:
        """As `samples_per_step` has them of the configuration."""
        return samples_per_step(self.config)

    def first(self, *path: str) -> float | None:
        """A number of the first observed row."""
        return _number(_at(self.observed[0], path)) if self.observed else None

    def settled(self, *path: str) -> float | None:
        """The median over the last tenth of the observed rows, three at least."""
        found = [value for row in self.observed[-max(3, len(self.observed) // 10) :] if (value := _value(row, path))]
        return statistics.median(value[0] for value in found) if found else None

    def scalars(self, name: str) -> list[float]:
        """A metric's finite values in order of step."""
        return [value for row in self.metrics if (value := _number(row.get(name))) is not None]

    def of_random_weights(self, name: str) -> float | None:
        """A metric before the first step."""
        first = self.metrics[0] if self.metrics else {}
        return _number(first.get(name)) if first.get("step") == 0 else None

    def newest_evaluations(self) -> dict[str, dict[str, Any]]:
        """The newest evaluation of each command, by the command's name."""
        found: dict[str, dict[str, Any]] = {}
        for each in sorted(self.evaluations, key=lambda each: str(each.get("created") or "")):
            if isinstance(each.get("command"), str):
                found[each["command"]] = each
        return found

    def summarised(self, *path: str) -> float | None:
        """A number of summary.json."""
        return _number(_at(self.summary, path))


def samples_per_step(config: dict[str, Any]) -> int | None:
    """Samples of all processes and of all batches whose gradients are added up; None where no batch size is known.

    `auto` counts as one device: what it came to is not in the configuration.
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
    """In a tuple, for 0 is a value too."""
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
    """What the doctor and the report read of a run, but for pictures and tensors."""
    objects = [folder.status, folder.summary, folder.input, folder.inactive, folder.duplicates / "duplicates.json"]
    rows = [folder.scores, folder.metrics, folder.bank, folder.history]
    return [folder.config, *objects, *sorted(folder.evaluations.glob("*.json")), *rows]


def _is_damaged(path: Path) -> bool:
    """Whether a file is there and none of it can be read; of rows, where not one of them is whole."""
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


@lru_cache(maxsize=1)  # a run that trains is read some twenty times, and its configuration does not change
def _of_yaml(text: str) -> dict[str, Any]:
    try:
        found = parse_yaml(text)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}
