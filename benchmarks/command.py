"""What `python -m benchmarks.PART` takes: where its rows go."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.timing import Row

__all__ = ["run_part"]


def run_part(part: str, measure: Callable[[], Iterable[Row]]) -> int:
    """Measure, say each row on standard error as it comes, and write all of them as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{part}", allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=None, help="JSON of the rows")
    given = parser.parse_args()
    rows = []
    for row in measure():
        wanted = "" if row.target is None else f", wanted {'>=' if row.better == 'higher' else '<='} {row.target:g}"
        print(
            f"{part}: {row.what} against {row.against}: {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f}){wanted}",
            file=sys.stderr,
        )
        rows.append(row.as_json())
    if given.out is not None:
        given.out.write_text(json.dumps(rows))
    return 0
