"""Measure some parts, or all of them, and print the rows as JSON; `benchmarks.table` makes docs/benchmarks of it.

    python -m benchmarks loss views --out bench.json

Peers (lightly, pytorch-metric-learning, stable-pretraining) are installed by `make bench` in an environment of their
own. Each part runs in a process of its own, so that none inherits another's memory or threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from contrast.compare.machine import commit, machine

PARTS = ("loss", "views", "step", "loading", "evaluation", "start")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", allow_abbrev=False)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=None, help="JSON of all rows")
    given = parser.parse_args(words)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {unknown[0]!r}: give some of {', '.join(PARTS)}")
    rows = [row for part in given.parts for row in _of_part(part)]
    found = json.dumps({"commit": commit(), "machine": machine(), "rows": rows}, indent=1)
    print(found)
    if given.out is not None:
        given.out.write_text(found + "\n")
    return 0


def _of_part(part: str) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}", "--out", str(out)], check=True)
        rows: list[dict[str, object]] = json.loads(out.read_text())
        return rows


if __name__ == "__main__":
    raise SystemExit(main())
