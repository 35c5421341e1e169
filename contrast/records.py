"""Append-only JSON-lines records (metrics.jsonl, scores.jsonl, ...): written during training, read by everything else.

Each row is one line, which is flushed when it is written. A process that is killed during a write leaves at most one
incomplete line, which readers drop. A resumed run appends a mark, ``{"resumed": step}``, with the step that it
continues from. Rows of later steps that stand before the mark belong to steps that the resumed run replaces, and
readers drop them too.
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
"""Size in bytes up to which a file of large rows is read whole.

This is some thousands of rows of scores.jsonl, more than any figure draws.
"""
MOST_METRICS = 1 << 28
"""Size in bytes up to which metrics.jsonl is read whole: some two million rows.

The limit is larger than `MOST_BYTES` because these rows are small, and some keys occur in only a few rows.
"""
_RESUMED = "resumed"
_BEGIN = re.compile(rb'\{"step": ?(\d+)[,}]')
_HEADERS = 16
_BLOCK = 1 << 16


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row to a record file.

    An incomplete last line, left by a killed process, is first ended with a newline, so that it does not damage the new
    row. NaN and infinities are written as null.

    Args:
        path: the record file.
        row: names and JSON values.
    """
    try:
        line = json.dumps(row, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN or infinity, which is rare
        line = json.dumps(_plain(row), separators=(",", ":"), allow_nan=False)
    with open(path, "a+b", opener=_not_through_a_link) as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def _not_through_a_link(path: str, flags: int) -> int:
    """Opener for `open` that refuses symbolic links: a received run folder could link to any file of the user."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def mark_resumed(path: Path, step: int) -> None:
    """Append the mark of a resume: the run continues after this step. Do nothing if the file does not exist yet.

    Args:
        path: the record file.
        step: optimiser step of the checkpoint that the run resumes from.
    """
    if path.exists():
        append_row(path, {_RESUMED: step})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all complete rows in the order written, without rows that a resumed run replaced.

    A row is replaced if its step is greater than the step of some later ``{"resumed": step}`` mark. One pass from the
    end finds these rows, for any number of resumes.

    Args:
        path: the record file.

    Returns:
        The rows; an empty list if the file does not exist yet.
    """
    return without_replaced(every_row(path))


def without_replaced(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop rows that a resumed run replaced, and the marks of resumes.

    Args:
        rows: all rows of a file, in the order written.
    """
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
    """Read all complete rows of a file, including replaced rows and the marks of resumes."""
    return [row for _, row in rows_from(path, 0)]


def rows_from(path: Path, place: int) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """Read complete rows from a byte offset on, so that a reader that returns reads only new rows.

    Args:
        path: the record file; a missing file, a pipe or a device gives no rows.
        place: byte offset at which a line begins: 0, or an offset that this function yielded before.

    Yields:
        The byte offset after the row's line, or None if the line has no newline yet and may still be incomplete; and
        the row.
    """
    if not path.is_file():  # a pipe or a device may be endless
        return
    with open(path, "rb") as file:
        file.seek(place)
        for line in file:
            place += len(line)
            if (row := _row_of(line)) is not None:
                yield place if line.endswith(b"\n") else None, row


def read_some_rows(path: Path, most_bytes: int = MOST_BYTES) -> tuple[list[dict[str, Any]], int]:
    """Read the rows of `read_rows`, or an evenly spaced sample of them if the file is large.

    In a large file, a first pass finds the lines without parsing them, and then only the sampled lines are parsed. The
    sample always contains the first row, the last row, and the first 16 rows without a step, such as a header.

    Args:
        path: the record file.
        most_bytes: size in bytes up to which the file is read whole; of a larger file, about this many bytes are
            parsed.

    Returns:
        The rows in the order written, and the number of rows in the file, sampled or not.
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
    """Find the last row that `read_rows` would give and that has a step, reading from the end of the file.

    Args:
        path: the record file.

    Returns:
        The row; None if there is no such row.
    """
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
    """Positions of the rows in a file that no resumed run has replaced.

    Args:
        starts: byte offset of each row from the start of the file.
        lengths: length of each row in bytes.
        stepless: indices of the rows that have no step.
    """

    def __init__(self, starts: array[int], lengths: array[int], stepless: set[int]) -> None:
        self.starts, self.lengths, self.stepless = starts, lengths, stepless

    @classmethod
    def found(cls, path: Path) -> _Lines:
        """Find the rows of a file without parsing most of them.

        A row has its step at the beginning of its line; only a line that begins otherwise is parsed.
        """
        starts, lengths, steps, place = array("q"), array("q"), array("d"), 0
        marks: dict[int, float] = {}  # step of each resume mark, by the number of rows before the mark
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
                        step = float(of) if isinstance(of, int) else -math.inf  # no resume replaces it
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
        """Start and length of evenly spaced rows that together have about `most_bytes` bytes."""
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
        parts: list[bytes] = []  # parts of a line that is longer than a block, the last part first
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
    except ValueError:  # an incomplete line, an empty line, or nesting that is too deep
        return None
    return row if isinstance(row, dict) else None


def read_text(path: Path) -> str | None:
    """Read a file as UTF-8 text.

    Args:
        path: the file.

    Returns:
        The text; None if the file is missing, is not text, or is much larger than any file that a run writes.
    """
    try:  # `small_enough` refuses a pipe or a device, which may be endless
        return path.read_text(encoding="utf-8") if small_enough(path) else None
    except (OSError, UnicodeDecodeError):
        return None


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a file that holds one JSON object; None if the file holds none or is incomplete."""
    try:
        content = parse_json(read_text(path) or "")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def read_mapping(path: Path) -> tuple[dict[Any, Any], str]:
    """Read a YAML file that holds a mapping.

    Args:
        path: the YAML file.

    Returns:
        The mapping and an empty text; or an empty mapping and the reason for the failure in one line.
    """
    try:
        content = parse_yaml(read_text(path) or "")
    except InputError as error:
        return {}, str(error)
    return (content, "") if isinstance(content, dict) and content else ({}, "it is empty or not a mapping")


def last_row_per_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the rows of each step into one row, in order of step; for a key that occurs twice, the last value remains.

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
    """Replace NaN and infinities by None, because JSON cannot represent them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
