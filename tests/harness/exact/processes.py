"""Runs in processes of their own, forked from this one, which has imported everything once."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.harness.exact.writes import Writes

__all__ = ["Chain", "Process", "all_of", "import_everything", "start"]

T = TypeVar("T")


def import_everything() -> None:
    """What takes seconds, before processes are forked; nothing is computed here, for threads do not survive a fork."""
    import torch

    import contrast.commands.building
    import contrast.commands.run  # noqa: F401

    torch.set_num_threads(1)


@dataclass
class Process:
    """A run in a process of its own.

    Attributes:
        number: the process's.
        folder: the run folder.
        kill_after: seconds from its first checkpoint to its death; None lets it live.
    """

    number: int
    folder: Path
    kill_after: float | None = None
    _seen: float = field(default=0.0, init=False)

    def kill_if_due(self) -> None:
        """To be asked all the time."""
        if self.kill_after is None:
            return
        if not self._seen:
            self._seen = time.monotonic() if (self.folder / "checkpoints/last.ckpt").exists() else 0.0
        elif time.monotonic() - self._seen >= self.kill_after:
            os.kill(self.number, signal.SIGKILL)
            self.kill_after = None


Chain = Generator[Process, int, T]
"""Processes one after another: it gives the next and is sent its exit status, negative of a signal."""


def all_of(chains: Iterable[Chain[T]], jobs: int) -> Iterator[T]:
    """What the chains return, as they end; so many of them run side by side."""
    waiting, running = iter(chains), dict[int, tuple[Process, Chain[T]]]()
    more = True
    while more or running:
        while more and len(running) < jobs:
            chain = next(waiting, None)
            more = chain is not None
            if chain is not None:
                process = next(chain)
                running[process.number] = (process, chain)
        done, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
        if done in running:
            _, chain = running.pop(done)
            try:
                process = chain.send(os.waitstatus_to_exitcode(status))
                running[process.number] = (process, chain)
            except StopIteration as end:
                yield end.value
        elif not done:
            for process, _ in running.values():
                process.kill_if_due()
            time.sleep(0.002)


def start(
    words: list[str],
    folder: Path,
    log: Path,
    kill_at: tuple[str, int] | None = None,
    kill_after: float | None = None,
) -> Process:
    """`contrast` with these words; its output goes to `log`, and how much it wrote beside it.

    Args:
        words: after `contrast`.
        folder: the run folder.
        log: the file.
        kill_at: a kind of write and its number, in the middle of which it dies.
        kill_after: as `Process` has it.
    """
    number = os.fork()
    if number:
        return Process(number, folder, kill_after)
    code = 70
    try:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from contrast.cli import main

        warnings.resetwarnings()
        writes = Writes(folder, kill_at)
        writes.watch()
        code = main(words)
        Path(f"{log}.writes").write_text(json.dumps(writes.counts))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)
    raise AssertionError("not reached")
