"""Append-only rows of JSON: what a run writes while it trains and everything else reads.

One row a line, flushed as it is written. A process killed in mid-write leaves at most one cut line, which reading
drops. A resumed run says from which step it goes on, ``{"resumed": step}``: what was recorded of later steps before
that line happened to a run that is no more, and reading drops it too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrast.checked_text import parse_json, parse_yaml, small_enough
from contrast.errors import InputError

__all__ = [
    "append_row",
    "every_row",
    "last_row_per_step",
    "mark_resumed",
    "read_mapping",
    "read_object",
    "read_rows",
    "read_text",
]

_RESUMED = "resumed"


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
    """All whole rows of the run as it went on, in the order written; an empty list where there is no file yet."""
    kept: list[dict[str, Any]] = []
    for row in every_row(path):
        resumed = row.get(_RESUMED)
        if isinstance(resumed, int):
            kept = [before for before in kept if not _after(before, resumed)]
        else:
            kept.append(row)
    return kept


def every_row(path: Path) -> list[dict[str, Any]]:
    """All whole rows of the file, those too that a resumed run has replaced, and what says so."""
    if not path.is_file():  # nor a pipe or a device, which may have no end
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = parse_json(line)
        except ValueError:  # a cut line, the empty one after the last, or deep nesting
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


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


def _after(row: Mapping[str, Any], step: int) -> bool:
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
