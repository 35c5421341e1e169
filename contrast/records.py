"""Append-only rows of JSON: what a run writes while it trains and everything else reads.

One row a line, flushed as it is written. A process killed in mid-write leaves at most one cut line, which reading
drops. A resumed run appends rows for steps that the killed one had already recorded: the later row of a step wins.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["append_row", "last_row_per_step", "read_rows"]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row; a cut line left by a killed process is closed first, so that it damages no row of ours."""
    line = json.dumps(_plain(row), separators=(",", ":"), allow_nan=False)
    with open(path, "a+b") as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of the file, in the order written; an empty list where there is no file yet."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:  # a cut line, or the empty one after the last
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def last_row_per_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a step, in order of step: rows of one step put together, and of one key the value written last.

    Rows without a step are left out.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows:
        if "step" in row:
            by_step.setdefault(row["step"], {}).update(row)
    return [by_step[step] for step in sorted(by_step)]


def _plain(value: Any) -> Any:
    """NaN and infinities have no JSON; they are written as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
