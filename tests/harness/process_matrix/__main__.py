"""Train every case by one process and by several, and print how far they are apart.

    python -m tests.harness.process_matrix --processes 2 4 > matrix.md
    python -m tests.harness.process_matrix --break > broken.md
    python -m tests.harness.process_matrix --break --witnesses

Prints Markdown. Exit code 1 where a number is above its bound; with ``--break``, where something that was taken away is
not noticed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tests.harness.process_matrix.apart import apart
from tests.harness.process_matrix.breaks import BREAKS, WITNESSES
from tests.harness.process_matrix.cases import CASES
from tests.harness.process_matrix.workers import Found, of_processes

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
WHAT = {
    "loss": ("loss",),
    "gradients": ("gradient",),
    "parameters": ("parameters", "momentum"),
    "banks and memories": ("memories",),
    "records": ("records",),
    "coarse records": ("coarse",),
}
_SINGLE = 1e-5
"""The bound of what is kept in single precision whatever is computed in: coarse records, and a FaissBank's keys."""


def compared(one: Found, many: Sequence[Found], name: str) -> dict[str, float]:
    """How far every process is from the one, at most, in each of `WHAT`."""
    return {
        what: max(apart(one[name][part], each[name][part]) for each in _that_have(many, name, what) for part in parts)
        for what, parts in WHAT.items()
    }


def _that_have(many: Sequence[Found], name: str, what: str) -> Sequence[Found]:
    """A sharded bank is whole in the first process's state, from which checkpoints are written."""
    return many[:1] if "sharded" in name and what == "banks and memories" else many


def bound(name: str, what: str, precision: torch.dtype) -> float:
    """How far apart they may be."""
    if "learned" in name and what == "gradients" and precision == torch.float32:
        return 3e-5  # of the temperature: a small difference of two large sums
    single = what == "coarse records" or ("FaissBank" in name and what == "banks and memories")
    return _SINGLE if single else BOUNDS[precision]


def matrix(names: Sequence[str], counts: Sequence[int]) -> tuple[list[str], bool]:
    """Lines of tables, and whether all are within their bounds."""
    lines, good = [], True
    for precision in BOUNDS:
        one = of_processes(1, names, precision)[0]
        for count in counts:
            many = of_processes(count, names, precision)
            far = {name: compared(one, many, name) for name in names}
            good &= all(far[name][what] <= bound(name, what, precision) for name in names for what in WHAT)
            lines += ["", f"{count} processes, {str(precision).removeprefix('torch.')}:", "", *_table(far, precision)]
            print(f"{count} processes, {precision}: done", file=sys.stderr)
    return lines[1:], good


def _table(far: dict[str, dict[str, float]], precision: torch.dtype) -> list[str]:
    lines = [f"| | {' | '.join(WHAT)} |", f"| --- |{' --- |' * len(WHAT)}"]
    for name, row in far.items():
        cells = [f"{each:.0e}" if each else "0" for each in row.values()]
        marked = [
            cell if row[what] <= bound(name, what, precision) else f"**{cell}**"
            for what, cell in zip(WHAT, cells, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(marked)} |")
    return lines


def broken(rows: Mapping[str, Sequence[str]]) -> tuple[list[str], bool]:
    """What two processes no longer agree on once something is taken away: of each, in these rows."""
    one = of_processes(1, sorted({name for names in rows.values() for name in names}), torch.float64)[0]
    lines, good = ["| taken away | rows that fail | in |", "| --- | --- | --- |"], True
    for what, names in rows.items():
        many = of_processes(2, names, torch.float64, what)
        failed: dict[str, list[str]] = {}
        for name in names:
            far = compared(one, many, name)
            failed[name] = [part for part in WHAT if not far[part] <= bound(name, part, torch.float64)]
        seen = [name for name in names if failed[name]]
        parts = [part for part in WHAT if any(part in each for each in failed.values())]
        good &= bool(seen)
        lines.append(f"| {what} | {len(seen)} of {len(names)} | {', '.join(parts) or '**nothing**'} |")
        print(f"{what}: {len(seen)} fail: {', '.join(seen)}", file=sys.stderr)
    return lines, good


def to_break(names: Sequence[str], witnesses: bool) -> dict[str, list[str]]:
    """The rows that are trained without each of the things that are taken away."""
    if witnesses:
        return {what: [name] for what, name in WITNESSES.items()}
    # A shared-out bank that asks for local keys alone does not go wrong but to pieces, and its processes wait.
    left_out = {"a bank of local keys": "sharded"}
    return {what: [name for name in names if left_out.get(what, "\0") not in name] for what in BREAKS}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.process_matrix", allow_abbrev=False)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4], choices=[2, 4])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--break", dest="broken", action="store_true", help="take things away and see rows fail")
    parser.add_argument("--witnesses", action="store_true", help="with --break: one row that must fail by each alone")
    given: Any = parser.parse_args(arguments)
    if given.broken:
        lines, good = broken(to_break(given.cases, given.witnesses))
    else:
        lines, good = matrix(given.cases, given.processes)
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
