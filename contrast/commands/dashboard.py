"""`contrast dashboard`: a local web page of all runs in a folder, updated live during training."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from contrast.commands.arguments import OneLineParser
from contrast.errors import InputError
from contrast.run_folder import RunFolder

__all__ = ["main"]

EPILOG = """examples:
  contrast dashboard runs                      then open http://127.0.0.1:8230/
  contrast dashboard runs --port 9000

The dashboard only reads files and by default serves only this machine. Starting or stopping it does not affect runs."""

LAST_PORT = 65535


def main(argv: list[str]) -> int:
    """Serve the dashboard until Ctrl-C.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: if the folder cannot hold runs, or the server cannot listen at the address.
    """
    arguments = _parser().parse_args(argv)
    folder, port = _folder(arguments.runs), _port(arguments.port)
    from contrast.dashboard import serve  # imported after the checks, so that a wrong path fails at once

    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to stop
        serve(folder, arguments.host, port)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast dashboard",
        description="Show all runs of a folder as a local web page that follows them while they train.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", type=Path, metavar="RUNS_FOLDER", help="folder that holds run folders, for example runs"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: only this machine, %(default)s)"
    )
    parser.add_argument("--port", default="8230", help="0 for any free port (default: %(default)s)")
    return parser


def _folder(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"no folder {str(path)!r}: give the folder that holds your runs, or create it first")
    if not path.is_dir():
        raise InputError(f"{str(path)!r} is a file: give the folder that holds your runs")
    if RunFolder(path).config.is_file():
        above = path.resolve().parent
        raise InputError(f"{str(path)!r} is one run: give the folder that holds it, {str(above)!r}, to see all of them")
    return path


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= LAST_PORT):
        raise InputError(f"--port {text!r} is not a port: give 1024 to {LAST_PORT}, or 0 for any free port")
    return int(text)
