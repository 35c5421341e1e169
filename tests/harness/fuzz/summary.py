"""A table of what became of a corpus."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["print_summary"]

_VERDICTS = ("accepted", "refused", "stopped", "interrupted", "failed")


def print_summary(rows: list[dict[str, Any]], file: str | None) -> int:
    """Print counts by kind and verdict, and the failures by reason; 1 where there are any, else 0."""
    if file is not None:
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    kinds = sorted({row["kind"] for row in rows})
    counts = Counter((row["kind"], row["verdict"]) for row in rows)
    print("| kind | cases | " + " | ".join(_VERDICTS) + " |")
    print("| --- |" + " ---: |" * (len(_VERDICTS) + 1))
    for kind in [*kinds, "all"]:
        of = [sum(counts[each, verdict] for each in (kinds if kind == "all" else [kind])) for verdict in _VERDICTS]
        print(f"| {kind} | {sum(of):,} | " + " | ".join(f"{number:,}" for number in of) + " |")
    if rows:
        times = [row["seconds"] for row in rows]
        print(f"\nseconds a case: median {statistics.median(times):.2f}, most {max(times):.1f}")
    failures = [row for row in rows if row["verdict"] == "failed"]
    for reason, count in Counter(_alike(row["reason"]) for row in failures).most_common():
        example = next(row["case"] for row in failures if _alike(row["reason"]) == reason)
        print(f"\n{count} x {reason}\n    {example}")
    return 1 if failures else 0


def _alike(reason: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "N", reason)[:140]
