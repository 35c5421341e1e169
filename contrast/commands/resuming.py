"""Which checkpoint a run goes on from, and that no other process is writing the run folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from contrast.checkpoint_file import read_checkpoint
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.whole_file import remove_parts

__all__ = ["alone_in", "checkpoint_to_resume", "is_first_process"]


def is_first_process() -> bool:
    """Whether this is the process that was started by hand, which sees to the run folder, and not one of its further
    ones; these are started with the same words."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def checkpoint_to_resume(folder: RunFolder) -> Path:
    """The last checkpoint, or the one before where that is damaged; which is said.

    The damaged one is kept as ``damaged.ckpt``, out of the way: what is written next must not take the place of the
    good one.

    Raises:
        InputError: where none of them can be read.
    """
    last, previous = folder.last_checkpoint, folder.previous_checkpoint
    try:
        read_checkpoint(last)
        return last
    except InputError as error:
        if not previous.is_file():
            raise
        try:
            step = read_checkpoint(previous)["global_step"]
        except InputError as worse:
            raise InputError(f"{error}; nor can the one before, {previous.name}") from worse
        print(f"note    {error}; going on from the one before, {previous.name}, at step {step}", file=sys.stderr)
        if last.is_file() and is_first_process():
            os.replace(last, folder.checkpoints / "damaged.ckpt")
        return previous


@contextlib.contextmanager
def alone_in(folder: RunFolder) -> Iterator[None]:
    """While this lasts no other process trains in the folder; what killed ones left half-written there is removed.

    Raises:
        InputError: where another process does.
    """
    if not is_first_process():
        yield
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    # Not through a link: whoever made the folder may have put one there.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(folder.lock, "a", opener=lambda path, _: os.open(path, flags, 0o666)) as file:
        _lock(file.fileno(), folder)
        remove_parts((folder.path, folder.checkpoints, folder.pairs, folder.pictures))
        yield


def _lock(file: int, folder: RunFolder) -> None:
    """By a record lock: it is this process's alone, forked loader workers do not have it, and it ends with it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InputError(
            f"another process is training in {str(folder.path)!r}: wait for it, stop it, or give another --run"
        ) from error
    except OSError:  # a file system without locks
        return
