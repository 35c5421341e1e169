"""Run the cells that are not finished, several at a time, and go on where one fails."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contrast.commands.configuration import read_yaml
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from tools.compare.grid import Cell, Evaluation, fingerprint, resolved

__all__ = ["Failure", "alone", "read_cell", "run", "unfinished"]

_ROOT = Path(__file__).resolve().parents[2]
Running = dict[subprocess.Popen[bytes], Cell]


@dataclass(frozen=True)
class Failure:
    """A cell that ended before it was finished, and the last line that it wrote."""

    cell: Cell
    line: str


@contextmanager
def alone(out: Path) -> Iterator[int]:
    """Hold the folder; the lock's file descriptor, for the cells' processes: one that outlives us still holds it.

    Raises:
        InputError: where somebody else holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{str(out)!r} is in use by another comparison, or by cells that one left running: wait for their end"
            ) from error
        yield lock.fileno()


def read_cell(cell: Cell) -> dict[str, Any] | None:
    """What the finished cell found; None for one that is not finished."""
    if not cell.result.is_file():
        return None
    content: dict[str, Any] = json.loads(cell.result.read_text(encoding="utf-8"))
    return content


def unfinished(cells: Sequence[Cell], evaluation: Evaluation) -> dict[Cell, str]:
    """Cells that still have something to do, with the fingerprints of their configurations.

    A trained cell that is to be evaluated otherwise is among them; it is not trained again.

    Raises:
        InputError: for a configuration that does not fit, or is another than the one a cell was trained with.
    """
    left = {}
    for cell in cells:
        key, done = fingerprint(resolved(cell)), read_cell(cell)
        trained_with = _trained_with(cell, done)
        if trained_with not in (None, key):
            raise InputError(
                f"{cell.name} was trained with another configuration: delete {str(cell.folder)!r} or give another --out"
            )
        if done is None or done["evaluate"] != asdict(evaluation):
            left[cell] = key
    return left


def _trained_with(cell: Cell, done: dict[str, Any] | None) -> str | None:
    if done is not None:
        return str(done["configuration"])
    folder = RunFolder(cell.folder)
    return fingerprint(read_yaml(folder.config)) if folder.last_checkpoint.is_file() else None


def run(
    left: dict[Cell, str], finished: int, evaluation: Evaluation, jobs: int, threads: int, lock: int
) -> list[Failure]:
    """Run these cells; those that failed.

    Args:
        left: cells and the fingerprints of their configurations.
        finished: how many cells are there already, for the progress bar.
        evaluation: what is measured of each.
        jobs: processes at a time.
        threads: that each computes with.
        lock: from `alone`.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once every process has saved and ended; a second one kills them.
    """
    waiting, running, failures = list(left.items()), Running(), list[Failure]()
    bar = tqdm(
        total=finished + len(left), initial=finished, unit="cell", desc="compare", file=sys.stderr, disable=not left
    )
    with bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cell, key = waiting.pop(0)
                    running[_start(cell, _spec(cell, key, evaluation, jobs), threads, lock)] = cell
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


def _spec(cell: Cell, key: str, evaluation: Evaluation, jobs: int) -> dict[str, Any]:
    return {
        "row": cell.row,
        "column": cell.column,
        "seed": cell.seed,
        "folder": str(cell.folder),
        "words": cell.overlay.words(),
        "configuration": key,
        "evaluate": asdict(evaluation),
        "jobs": jobs,
    }


def _start(cell: Cell, spec: dict[str, Any], threads: int, lock: int) -> subprocess.Popen[bytes]:
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with open(cell.log, "ab") as log:
        # A session of its own, so that Ctrl-C reaches it through us alone, and none of its loaders.
        return subprocess.Popen(
            [sys.executable, "-m", "tools.compare.cell", json.dumps(spec)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )


def _stop(running: Running) -> None:
    """Have what still runs save and end; a further Ctrl-C kills it."""
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
    text = cell.log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return lines[-1] if lines else f"exit code {code}"
