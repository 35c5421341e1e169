"""Count what a process writes into its run folder, and kill it in the middle of one of these writes."""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Writes"]

PLACED = " put in place"
KINDS = ("checkpoint", f"checkpoint{PLACED}", "record", "pairs", "gallery", "table", "configuration")
"""What is counted: files of checkpoints/, rows, files of pairs/ and gallery/, metrics.csv, and what a run starts with
(its folder, lock and config.yaml); and for themselves, as few among many writes, the links and renames of checkpoints.
How often the status is written depends on the clock.
"""


class Writes:
    """Numbers every opening, write, rename and link in a folder, and its making, of each kind for itself.

    Args:
        folder: the run folder.
        kill: a kind and the number of one of its events, at which this process kills itself; a write is half done then.
    """

    def __init__(self, folder: Path, kill: tuple[str, int] | None) -> None:
        self._folder, self._kill = folder.resolve(), kill
        self.counts: Counter[str] = Counter()
        self._open = builtins.open

    def watch(self) -> None:
        """From now on, for the rest of this process's life."""
        builtins.open = self._opened
        io.open = self._opened
        sys.addaudithook(self._hear)

    def happens(self, kind: str) -> bool:
        """Count an event; whether it is the one to die at."""
        self.counts[kind] += 1
        return self._kill == (kind, self.counts[kind])

    def kind_of(self, path: Any) -> str | None:
        """Of what is written at this path, None if it is not counted."""
        if not isinstance(path, str | os.PathLike):
            return None
        try:
            inside = Path(os.path.abspath(path)).relative_to(self._folder)
        except ValueError:
            return None
        name = inside.with_name(inside.name.removeprefix("."))
        return _kind(name)

    def _opened(self, file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        opened = self._open(file, mode, *rest, **more)
        kind = self.kind_of(file) if set(mode) & set("wax+") else None
        if kind is None:
            return opened
        if self.happens(kind):
            die()
        return _Torn(opened, kind, self)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        kind = None
        if event == "os.mkdir" and os.path.abspath(os.fsdecode(arguments[0])) == str(self._folder):
            kind = "configuration"
        elif event in ("os.rename", "os.link"):
            kind = self.kind_of(arguments[1])
            kind = f"{kind}{PLACED}" if kind == "checkpoint" else kind
        if kind is not None and self.happens(kind):
            die()


def _kind(name: Path) -> str | None:
    folder = name.parts[0] if len(name.parts) > 1 else ""
    if folder == "checkpoints":
        return "checkpoint"
    if folder in ("pairs", "gallery"):
        return folder
    if not folder and name.name.startswith(("config.yaml", "lock")):
        return "configuration"
    if not folder and ".jsonl" in name.name:
        return "record"
    return "table" if not folder and ".csv" in name.name else None


def die() -> None:
    """At once, with no word to anybody."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Torn:
    """A file whose writes are counted, one of which may stop half-way."""

    def __init__(self, file: Any, kind: str, writes: Writes) -> None:
        self._file, self._kind, self._writes = file, kind, writes

    def write(self, data: Any) -> int:
        if self._writes.happens(self._kind):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            die()
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)
