"""`contrast report`: write one HTML page about one or several runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from contrast.commands.arguments import OneLineParser
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file

__all__ = ["main"]

EPILOG = """examples:
  contrast report runs/simclr                  writes runs/simclr/report.html
  contrast report runs/simclr runs/dcl         compares both in ./comparison.html

The page is self-contained: open it in any browser, offline, or send it to somebody."""


def main(argv: list[str]) -> int:
    """Write the page and print its path.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: if a folder is not a run folder, a run is given twice, or the output path cannot be a file.
    """
    arguments = _parser().parse_args(argv)
    folders = [RunFolder.existing(path) for path in arguments.runs]
    _refuse_twice(folders)
    output = _output(arguments.output, folders)
    from contrast.report import build_page, read_runs  # imported after the checks, so that a wrong path fails at once

    page = build_page(read_runs(folders))
    _write(output, page)
    print(output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast report",
        description="Write one self-contained HTML page about one run, or comparing several.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folder of a finished run or of a run in training"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: RUN/report.html for one run, ./comparison.html for several)",
    )
    return parser


def _refuse_twice(folders: Sequence[RunFolder]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.path.resolve() in seen:
            raise InputError(f"run {str(folder.path)!r} is given twice: give each run once")
        seen.add(folder.path.resolve())


def _write(output: Path, page: str) -> None:
    """Write the page atomically, so that a reader who reloads it during training never sees an incomplete page."""
    try:
        with whole_file(output) as part:
            part.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {str(output)!r} ({error.strerror}): give another --output") from error


def _output(given: Path | None, folders: Sequence[RunFolder]) -> Path:
    output = given or (folders[0].report if len(folders) == 1 else Path("comparison.html"))
    if output.is_dir():
        raise InputError(f"--output {str(output)!r} is a folder: give the name of a file in it")
    if not output.parent.is_dir():
        raise InputError(f"--output {str(output)!r}: the folder {str(output.parent)!r} does not exist: create it first")
    return output
