"""Append-only rows of JSON: what a run writes while it trains and everything else reads.

One row a line, flushed as it is written. A process killed in mid-write leaves at most one cut line, which reading
drops. A resumed run says from which step it goes on, ``{"resumed": step}``: what was recorded of later steps before
that line happened to a run that is no more, and reading drops it too.
"""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrast.checked_text import parse_json, parse_yaml, small_enough
from contrast.errors import InputError

__all__ = [
    "append_row",
    "every_row",
    "last_row",
    "last_row_per_step",
    "mark_resumed",
    "read_mapping",
    "read_object",
    "read_rows",
    "read_some_rows",
    "read_text",
    "rows_from",
    "without_replaced",
]

MOST_BYTES = 1 << 25
"""Of a file of large rows: some thousands of rows of scores.jsonl, which are more than any figure draws."""
MOST_METRICS = 1 << 28
"""Of metrics.jsonl, whose rows are small and where some keys are in few rows: some two million rows."""
_RESUMED = "resumed"
_BEGIN = re.compile(rb'\{"step": ?(\d+)[,}]')
_HEADERS = 16
_BLOCK = 1 << 16


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row; a cut line left by a killed process is closed first, so that it damages no row of ours."""
    try:
        line = json.dumps(row, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN or an infinity, which few rows have
        line = json.dumps(_plain(row), separators=(",", ":"), allow_nan=False)
    with open(path, "a+b", opener=_not_through_a_link) as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def _not_through_a_link(path: str, flags: int) -> int:
    """For `open`: a link in a run folder from elsewhere may lead to any file of whoever goes on with the run."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def mark_resumed(path: Path, step: int) -> None:
    """Say that the run goes on from here with the steps after this one; where there is no file yet, nothing."""
    if path.exists():
        append_row(path, {_RESUMED: step})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of the run as it went on, in the order written; an empty list where there is no file yet.

    A row that a resumed run has replaced is one whose step is after the step of some later ``{"resumed": step}``: one
    pass from the end, whatever the number of resumes.
    """
    return without_replaced(every_row(path))


def without_replaced(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without those that a resumed run has replaced, and without the marks of resumes."""
    kept: list[dict[str, Any]] = []
    until = math.inf
    for row in reversed(rows):
        resumed = row.get(_RESUMED)
        if isinstance(resumed, int):
            until = min(until, resumed)
        elif not _after(row, until):
            kept.append(row)
    kept.reverse()
    return kept


def every_row(path: Path) -> list[dict[str, Any]]:
    """All whole rows of the file, those too that a resumed run has replaced, and what says so."""
    return [row for _, row in rows_from(path, 0)]


def rows_from(path: Path, place: int) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Whole rows behind a place in a file, one by one, so that a reader that comes back reads only what is new.

    Args:
        path: of the file; no file, a pipe or a device has no rows.
        place: bytes from the file's start at which a line begins: 0, or what this function gave before.

    Yields:
        The place behind the row's line, or None where the line has no end yet because it may still be written; and
        the row.
    """
    if not path.is_file():  # nor a pipe or a device, which may have no end
        return
    with open(path, "rb") as file:
        file.seek(place)
        for line in file:
            place += len(line)
            if (row := _row_of(line)) is not None:
                yield place if line.endswith(b"\n") else None, row


def read_some_rows(path: Path, most_bytes: int = MOST_BYTES) -> tuple[list[dict[str, Any]], int]:
    """The rows of `read_rows`, or evenly spread ones of a file that is larger than a reader has time and memory for.

    Of a large file the lines are found first, which takes no parsing; only those that are chosen are parsed. The first
    and the last row are always among them, and so are rows without a step, such as a header.

    Args:
        path: of the file.
        most_bytes: a file up to this size is read whole; of a larger one about this much is parsed.

    Returns:
        The rows in the order written, and how many there are in the file, those that were chosen or not.
    """
    if not path.is_file() or path.stat().st_size <= most_bytes:
        rows = read_rows(path)
        return rows, len(rows)
    lines = _Lines.found(path)
    places = lines.some(most_bytes)
    rows = []
    with open(path, "rb") as file:
        for start, length in places:
            file.seek(start)
            if (row := _row_of(file.read(length))) is not None:
                rows.append(row)
    return rows, len(lines.starts)


def last_row(path: Path) -> dict[str, Any] | None:
    """The last row that `read_rows` gives and that has a step, found from the file's end; None where there is none."""
    until = math.inf
    for line in _lines_from_the_end(path):
        row = _row_of(line)
        if row is None:
            continue
        resumed = row.get(_RESUMED)
        if isinstance(resumed, int):
            until = min(until, resumed)
        elif "step" in row and not _after(row, until):
            return row
    return None


class _Lines:
    """Where the rows of a file begin that no resumed run has replaced.

    Args:
        starts: bytes from the file's start.
        lengths: bytes.
        stepless: which of them are rows without a step.
    """

    def __init__(self, starts: array[int], lengths: array[int], stepless: set[int]) -> None:
        self.starts, self.lengths, self.stepless = starts, lengths, stepless

    @classmethod
    def found(cls, path: Path) -> _Lines:
        """Look at the beginning of each line only, where a row has its step; parse a line that begins otherwise."""
        starts, lengths, steps, place = array("q"), array("q"), array("d"), 0
        marks: dict[int, float] = {}  # by the number of rows before it
        with open(path, "rb") as file:
            for line in file:
                begun = _BEGIN.match(line)
                step: float | None = None
                if begun is not None:
                    step = float(begun[1])
                elif (row := _row_of(line)) is not None:
                    resumed, of = row.get(_RESUMED), row.get("step")
                    if isinstance(resumed, int):
                        marks[len(starts)] = min(resumed, marks.get(len(starts), math.inf))
                    else:
                        step = float(of) if isinstance(of, int) else -math.inf  # which no resume replaces
                if step is not None:
                    starts.append(place)
                    lengths.append(len(line))
                    steps.append(step)
                place += len(line)
        kept, until = array("q"), math.inf
        for at in range(len(starts) - 1, -1, -1):
            until = min(until, marks.get(at + 1, math.inf))
            if steps[at] <= until:
                kept.append(at)
        kept.reverse()
        stepless = {place for place, at in enumerate(kept) if steps[at] == -math.inf}
        return cls(array("q", (starts[at] for at in kept)), array("q", (lengths[at] for at in kept)), stepless)

    def some(self, most_bytes: int) -> list[tuple[int, int]]:
        """Start and length of evenly spread rows that have about so many bytes together."""
        last = len(self.starts) - 1
        count = max(2, most_bytes * len(self.starts) // max(1, sum(self.lengths)))
        chosen = {round(place * last / (count - 1)) for place in range(count)} if last > 0 else set(range(last + 1))
        chosen.update(sorted(self.stepless)[:_HEADERS])
        return [(self.starts[at], self.lengths[at]) for at in sorted(chosen)]


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        return
    with open(path, "rb") as file:
        left, rest = file.seek(0, os.SEEK_END), b""
        parts: list[bytes] = []  # of a line that is longer than a block, the last part first
        while left > 0:
            size = min(_BLOCK, left)
            left -= size
            file.seek(left)
            first, *others = file.read(size).split(b"\n")
            if not others:
                parts.append(first)
                continue
            others[-1] += b"".join(reversed(parts))
            yield from reversed(others)
            parts = [first]
        rest = b"".join(reversed(parts))
        if rest:
            yield rest


def _row_of(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:  # a cut line, an empty one, or endless nesting
        return None
    return row if isinstance(row, dict) else None


def read_text(path: Path) -> str | None:
    """A file's text; None where there is no file to read, it is not text, or far larger than any that a run writes."""
    try:  # a pipe or a device may have no end
        return path.read_text(encoding="utf-8") if small_enough(path) else None
    except (OSError, UnicodeDecodeError):
        return None


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object that a file holds; None where it holds none, or a cut one."""
    try:
        content = parse_json(read_text(path) or "")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def read_mapping(path: Path) -> tuple[dict[Any, Any], str]:
    """The mapping that a YAML file holds, and why there is none: an empty one then, with the reason in one line."""
    try:
        content = parse_yaml(read_text(path) or "")
    except InputError as error:
        return {}, str(error)
    return (content, "") if isinstance(content, dict) and content else ({}, "it is empty or not a mapping")


def last_row_per_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a step, in order of step: rows of one step put together, and of one key the value written last.

    Rows without a step are left out.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows:
        if "step" in row:
            by_step.setdefault(row["step"], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]


def _after(row: Mapping[str, Any], step: float) -> bool:
    of = row.get("step")
    return isinstance(of, int) and of > step


def _plain(value: Any) -> Any:
    """NaN and infinities have no JSON; they are written as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
