"""Processes that run the unfinished cells of a grid, several at a time; a failed cell stops no other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contrast.compare.grid import Cell

__all__ = ["Failure", "run_cells"]

_ROOT = Path(__file__).resolve().parents[2]
_TAIL = 1 << 16  # bytes at the end of a log that are searched for the last line
Running = dict[subprocess.Popen[bytes], Cell]
Specification = Mapping[str, Any]
"""Content of the argument that tells the process of a cell what to do; it can be written as JSON."""


@dataclass(frozen=True)
class Failure:
    """A cell that ended before it was finished.

    Attributes:
        cell: the cell.
        line: the last line that its process printed.
    """

    cell: Cell
    line: str


def run_cells(
    left: Mapping[Cell, Specification], finished: int, words: Sequence[str], jobs: int, threads: int, lock: int | None
) -> list[Failure]:
    """Run cells, each in a process of its own, with a progress bar on standard error.

    Args:
        left: cells to run, each with the specification that its process gets as JSON.
        finished: number of cells that are finished already, for the progress bar.
        words: arguments of the Python interpreter of a process; the specification follows as the last argument.
        jobs: number of processes at a time.
        threads: number of threads of each process.
        lock: file descriptor that the processes inherit; None for none.

    Returns:
        The cells that failed.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after every process has saved and ended; a second Ctrl-C kills the processes.
    """
    waiting, running, failures = list(left.items()), Running(), list[Failure]()
    bar = tqdm(
        total=finished + len(left), initial=finished, unit="cell", desc="compare", file=sys.stderr, disable=not left
    )
    with bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell, spec = waiting.pop(0)
                    running[_start(cell, spec, words, threads, lock)] = cell
                    bar.set_postfix_str("; ".join(each.name for each in running.values()))
                time.sleep(0.1)
                for process in [each for each in running if each.poll() is not None]:
                    cell = running.pop(process)
                    if process.returncode:
                        failures.append(Failure(cell, _last_line(cell, process.returncode)))
                        bar.write(f"failed: {cell.name}", file=sys.stderr)
                    bar.update()
        finally:
            _stop(running)
    return failures


def _start(
    cell: Cell, spec: Specification, words: Sequence[str], threads: int, lock: int | None
) -> subprocess.Popen[bytes]:
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with open(cell.log, "ab", opener=lambda path, _: os.open(path, flags, 0o666)) as log:
        # The process has a session of its own, so that Ctrl-C reaches it only through this process, and never reaches
        # its loader workers. With -P, files of the current folder shadow no module.
        return subprocess.Popen(
            [sys.executable, "-P", *words, json.dumps(spec)],
            env={**os.environ, **_path(), "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )


def _path() -> dict[str, str]:
    """PYTHONPATH with the folder of this package, if the package is not installed but run from a checkout."""
    if _ROOT in [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))}


def _stop(running: Running) -> None:
    """Let the remaining processes save and end; another Ctrl-C kills them."""
    if not running:
        return
    print(f"\nstopping {len(running)} cells, each after its step; Ctrl-C again kills them", file=sys.stderr)
    try:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait()
    except KeyboardInterrupt:
        for process in running:
            process.kill()
            process.wait()
        raise


def _last_line(cell: Cell, code: int) -> str:
    if code < 0:
        return f"ended by signal {-code}"
    with open(cell.log, "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
        text = log.read().decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return "".join(filter(str.isprintable, lines[-1])) if lines else f"exit code {code}"
