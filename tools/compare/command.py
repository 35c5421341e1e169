"""The command: read the grid, run what is left, lay out the table."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contrast.errors import InputError
from contrast.evaluation import write_json
from tools.compare.baselines import baselines_of
from tools.compare.figure import check_figure, draw
from tools.compare.grid import Cell, Grid, read_grid
from tools.compare.markdown import check_page, put_into_page, rendered
from tools.compare.schedule import Failure, alone, read_cell, run, unfinished
from tools.compare.table import Content, summarise

__all__ = ["main"]

_EPILOG = """\
examples:
  python tools/compare.py tools/compare/fashion_methods.yaml --jobs 2
  python tools/compare.py tools/compare/fashion_methods.yaml --docs docs/compare.md
  python tools/compare.py batches.yaml --figure docs/images/batches.svg --metric few_label

A finished cell is never run again, and a cell that was interrupted goes on where it was: the same command goes on."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every cell is finished, 1 where some failed, 2 for a wrong input, 130 on Ctrl-C."""
    arguments = _arguments(words)
    # Ctrl-C even where the shell has it ignored; and a polite end stops the cells as Ctrl-C does.
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _compare(arguments)
    except InputError as error:
        print(f"compare: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted; the same command goes on", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare",
        description="Run a grid of configurations x seeds, and make one table of it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="YAML; docs/compare.md says what may stand in it")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of the cells (default: runs/compare/ and the grid's name)"
    )
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="cells at a time (default: 1)")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="that each computes with (default: 1)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table between the page's two markers")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="SVG or PNG: a line a row, over the columns")
    parser.add_argument("--metric", default="linear", metavar="NAME", help="of the figure: linear, few_label or knn")
    return parser.parse_args(words)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1")
    return int(text)


def _compare(arguments: argparse.Namespace) -> int:
    grid = read_grid(arguments.grid)
    if arguments.docs is not None:  # before hours go into cells
        check_page(arguments.docs, grid.name)
    if arguments.figure is not None:
        check_figure(arguments.figure, len(grid.columns))
    out = arguments.out or Path("runs", "compare", grid.name)
    with alone(out) as lock:
        cells = grid.cells(out)
        left = unfinished(cells, grid.evaluation)
        finished = len(cells) - len(left)
        failures = run(left, finished, grid.evaluation, arguments.jobs, arguments.threads, lock)
        _lay_out(grid, cells, [failure.cell for failure in failures], arguments, out)
    return _tell(failures)


def _lay_out(
    grid: Grid, cells: Sequence[Cell], failed: Sequence[Cell], arguments: argparse.Namespace, out: Path
) -> None:
    done = {cell: content for cell in cells if cell not in failed and (content := read_cell(cell)) is not None}
    if not done:
        return
    costs = _costs(done, arguments.threads)
    unfinished = [cell.name for cell in cells if cell not in done]
    table = summarise(grid, list(done.values()), costs, unfinished, baselines_of(grid, cells, out))
    command = shlex.join(["python", "tools/compare.py", str(arguments.grid)])
    text = rendered(table, command)
    write_json(out / "table.json", {"command": command, **table})
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    if arguments.docs is not None:
        put_into_page(arguments.docs, grid.name, text)
    if arguments.figure is not None:
        draw(table, arguments.metric, arguments.figure)


def _costs(done: Mapping[Cell, Content], threads: int) -> dict[tuple[str, str | None], Content]:
    """Once for each row and column, on its first finished cell."""
    from tools.compare.cost import loss_cost

    costs: dict[tuple[str, str | None], Any] = {}
    for cell, content in done.items():
        if (cell.row, cell.column) not in costs:
            kept = cell.folder.with_name("cost.json")
            costs[cell.row, cell.column] = loss_cost(cell.folder, kept, content["configuration"], threads)
    return costs


def _tell(failures: Sequence[Failure]) -> int:
    for failure in failures:
        print(f"compare: {failure.cell.name} failed: {failure.line} ({failure.cell.log})", file=sys.stderr)
    return 1 if failures else 0
