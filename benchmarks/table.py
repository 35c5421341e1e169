"""Rows of one or several runs of the benchmarks as one table, and its place in docs/benchmarks.md.

python -m benchmarks.table first.json second.json --docs docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contrast.compare.markdown import check_page, put_into_page

_NAME, _KIND, _MAKER = "benchmarks", "bench", "make bench"
_HEADS = ("", "against", "wanted", "ratio", "ours", "theirs")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", allow_abbrev=False)
    parser.add_argument("files", nargs="+", type=Path, help="what `python -m benchmarks --out` wrote, run by run")
    parser.add_argument("--docs", type=Path, default=None, help="put the table into this page")
    given = parser.parse_args(words)
    text = rendered([json.loads(file.read_text()) for file in given.files])
    if given.docs is not None:
        check_page(given.docs, _NAME, _KIND, _MAKER)
        put_into_page(given.docs, _NAME, text, _KIND, _MAKER)
    print(text)
    return 0


def rendered(runs: Sequence[Mapping[str, Any]]) -> str:
    """The table: a row that several runs have stands once, with the ratio of each."""
    lines = [_line(_HEADS), _line(["---"] * len(_HEADS))]
    for place, row in enumerate(runs[0]["rows"]):
        again = [run["rows"][place] for run in runs]
        if any(_named(each) != _named(row) for each in again):
            raise SystemExit("the files are of other parts: give runs of the same ones")
        lines.append(_line(_cells(again)))
    made = f"commit {runs[0]['commit']}, {_machine(runs[0]['machine'])}"
    return "\n".join([*lines, "", f"(`make bench`, {made}; {len(runs)} run{'s' * (len(runs) > 1)}.)"]) + "\n"


def _named(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["part"], row["what"], row["against"]


def _cells(again: Sequence[Mapping[str, Any]]) -> list[str]:
    row = again[0]
    sign = "≥" if row["better"] == "higher" else "≤"
    wanted = "" if row["target"] is None else f"{sign} {row['target']:g}"
    ratios = [f"{each['ratio']:.2f} ({each['low']:.2f} to {each['high']:.2f})" for each in again]
    missed = row["target"] is not None and not all(each["reached"] for each in again)
    times = [", ".join(f"{each[whose]:,.4g}" for each in again) + f" {row['unit']}" for whose in ("ours", "theirs")]
    what = row["what"] + (f" ({row['note']})" if row["note"] else "")
    return [what, row["against"], wanted, ", ".join(ratios) + (" **missed**" if missed else ""), *times]


def _machine(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
