"""`contrast compare`: run a grid of configurations x seeds, and make one table of it."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contrast.commands.arguments import OneLineParser
from contrast.commands.configuration import Config, read_yaml, shipped_configuration
from contrast.compare.cells import locked, read_cell, require_no_links
from contrast.compare.grid import Cell, Grid, parse_grid
from contrast.compare.schedule import Failure, run_cells
from contrast.errors import InputError, RunStopped, Terminated, did_you_mean
from contrast.runs.files import whole_file

__all__ = ["main", "read_grid"]

EPILOG = """examples:
  contrast compare batches.yaml --jobs 2
  contrast compare fashion_methods.yaml --out runs/methods --jobs 2      a shipped grid
  contrast compare batches.yaml --docs docs/compare.md --figure docs/images/batches.svg --metric few_label

A grid names rows, columns and seeds; docs/compare.md says what else it may hold. A finished cell is not run again, and
an interrupted cell continues where it was: type the same command. The table is in the folder's table.html, table.md and
table.json."""

_CELL = ("-m", "contrast", "compare", "--cell")


def main(argv: list[str]) -> int:
    """Run the unfinished cells, print the table and write it.

    Args:
        argv: words after the subcommand.

    Returns:
        Exit code 0 if every cell is finished, 1 if a cell failed.

    Raises:
        InputError: for any mistake in the grid, the options or the folder.
        RunStopped: if Ctrl-C interrupted it, after every cell has saved.
    """
    if argv[:1] == ["--cell"]:
        with _interruptible():
            return _run_cell(argv[1:])
    arguments = _parser().parse_args(argv)
    grid = read_grid(arguments.grid)
    _check_outputs(arguments, grid)
    out = arguments.out or Path("runs", "compare", grid.name)
    try:
        with _interruptible(), locked(out) as lock:
            return _compare(grid, out, arguments, lock)
    except Terminated:
        raise
    except KeyboardInterrupt as error:
        raise RunStopped("interrupted; the same command continues", 130) from error


def _run_cell(words: Sequence[str]) -> int:
    """Run one cell in this process, which the command has started for it."""
    try:
        (spec,) = map(json.loads, words)
        if not isinstance(spec, dict) or "folder" not in spec:
            raise ValueError
    except ValueError as error:
        raise InputError("--cell is for the processes that this command starts: give GRID") from error
    from contrast.commands.compare_cell import main as run

    return run(spec)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast compare",
        description="Run a grid of configurations x seeds, and make one table of it, with baselines and intervals.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("grid", type=Path, metavar="GRID", help="YAML file, or the name of a shipped grid")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder of the cells (default: runs/compare/ and the grid's name)"
    )
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="cells at a time (default: 1)")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="threads of each cell (default: 1)")
    parser.add_argument("--baselines", action="store_true", help="measure the baselines only, and train no cell")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table between the page's two markers")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="SVG or PNG: one line per row over the columns")
    parser.add_argument("--metric", default="linear", metavar="NAME", help="of the figure: linear, few_label or knn")
    parser.add_argument("--html", type=Path, metavar="FILE", help="of the page (default: table.html in the folder)")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to 10,000")
    return int(text)


def read_grid(file: Path) -> Grid:
    """Read a grid from its file, or a shipped grid by its name.

    Args:
        file: path of the YAML file, or the name of a file in the shipped ``configs/compare``.

    Raises:
        InputError: one line, if the file is missing or is not a grid.
    """
    if not file.exists():
        shipped = shipped_configuration(f"compare/{file.name}")
        if file.parent not in (Path(), Path("configs/compare")) or not shipped.is_file():
            known = [each.name for each in sorted(shipped.parent.glob("*.yaml")) if "rows" in read_yaml(each)]
            raise InputError(f"no grid {str(file)!r}{did_you_mean(file.name, known)}")
        file = shipped
    return parse_grid(read_yaml(file), file, _shipped_or_own)


def _shipped_or_own(file: Path) -> Path:
    """Path of a configuration that a grid names: a file if there is one, else the shipped file of that name."""
    if file.parts[:1] != ("configs",) or file.exists():
        return file
    shipped = shipped_configuration(str(file.relative_to("configs")))
    return shipped if shipped.is_file() else file


def _check_outputs(arguments: argparse.Namespace, grid: Grid) -> None:
    """Refuse files that could not be written in the end, before hours go into cells."""
    if arguments.docs is not None:
        from contrast.compare.markdown import check_page

        check_page(arguments.docs, grid.name)
    if arguments.figure is not None:
        from contrast.compare.figure import check_figure

        check_figure(arguments.figure, len(grid.columns))
    for flag, file in (("--figure", arguments.figure), ("--html", arguments.html)):
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise InputError(f"{flag} {str(file)!r}: give the name of a file in a folder that exists")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"--out {str(arguments.out)!r} is a file: give the name of a folder")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Context manager: Ctrl-C interrupts, even if the shell that started this process ignores it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _compare(grid: Grid, out: Path, arguments: argparse.Namespace, lock: int | None) -> int:
    cells = grid.cells(out)
    require_no_links(out, cells)
    from contrast.commands.compare_cell import specification
    from contrast.commands.compare_states import resolved, unfinished  # takes seconds: imports torch and Lightning

    configs = {cell: resolved(cell) for cell in cells}
    if arguments.baselines:
        return _only_baselines(grid, configs, out, arguments)
    evaluation = asdict(grid.evaluation)
    left = unfinished(cells, configs, grid.evaluation)
    specs = {cell: specification(cell, configs[cell], evaluation, arguments.jobs) for cell in left}
    failures = run_cells(specs, len(cells) - len(left), _CELL, arguments.jobs, arguments.threads, lock)
    _lay_out(grid, configs, failures, arguments, out)
    for failure in failures:
        print(f"compare: {failure.cell.name} failed: {failure.line} ({failure.cell.log})", file=sys.stderr)
    return 1 if failures else 0


def _only_baselines(grid: Grid, configs: Mapping[Cell, Config], out: Path, arguments: argparse.Namespace) -> int:
    from contrast.commands.compare_baselines import baselines_of
    from contrast.compare.cells import ACCURACIES
    from contrast.compare.markdown import baseline_lines
    from contrast.compare.table import summarise_baselines

    measured = baselines_of(grid, configs, out)
    bases = {grid.base(row) for row in grid.rows} - {None}
    columns, several = any(column is not None for column in grid.columns), bool(bases - {grid.baseline})
    for line in baseline_lines(summarise_baselines(grid, measured), ACCURACIES, columns, several):
        print(line)
    commits = ", ".join(dict.fromkeys(each["commit"] for each in measured))
    print(f"\n- `{_command(arguments)} --baselines`, {commits}, seeds {', '.join(map(str, grid.seeds))}")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command without options that change no number."""
    return shlex.join(["contrast", "compare", str(arguments.grid)])


def _lay_out(
    grid: Grid, configs: Mapping[Cell, Config], failures: Sequence[Failure], arguments: argparse.Namespace, out: Path
) -> None:
    """Write and print the table in all formats, if at least one cell is finished."""
    failed = {failure.cell: failure.line for failure in failures}
    done = {cell: content for cell in configs if cell not in failed and (content := read_cell(cell)) is not None}
    if not done:
        return
    from contrast.commands.compare_baselines import baselines_of
    from contrast.compare.html import build_page
    from contrast.compare.markdown import put_into_page, rendered, terminal_table
    from contrast.compare.table import summarise
    from contrast.evaluation import write_json

    costs = _costs(configs, done, arguments.threads)
    unfinished = [cell.name for cell in configs if cell not in done]
    lines = {cell.name: line for cell, line in failed.items()}
    table = summarise(grid, list(done.values()), costs, unfinished, baselines_of(grid, configs, out), lines)
    command = _command(arguments)
    text = rendered(table, command)
    page = arguments.html or out / "table.html"
    write_json(out / "table.json", {"command": command, **table})
    _write(out / "table.md", text)
    _write(page, build_page(table, command))
    print(f"{terminal_table(table)}\n\n{page}")
    if arguments.docs is not None:
        put_into_page(arguments.docs, grid.name, text)
    if arguments.figure is not None:
        from contrast.compare.figure import draw

        draw(table, arguments.metric, arguments.figure)


def _write(file: Path, text: str) -> None:
    with whole_file(file) as part:
        part.write_text(text, encoding="utf-8")


def _costs(
    configs: Mapping[Cell, Config], done: Mapping[Cell, Mapping[str, Any]], threads: int
) -> dict[tuple[str | None, str | None], Mapping[str, Any]]:
    """Cost of the loss, measured once for each row and column, on its first finished cell."""
    from contrast.commands.compare_cost import loss_cost
    from contrast.compare.grid import fingerprint

    costs: dict[tuple[str | None, str | None], Mapping[str, Any]] = {}
    for cell, content in done.items():
        if (cell.row, cell.column) not in costs:
            keys = (fingerprint(configs[cell]), content["configuration"])
            costs[cell.row, cell.column] = loss_cost(cell, configs[cell], keys, threads)
    return costs
