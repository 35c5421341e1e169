"""State that a process has once and a command must restore: environment variables, standard streams, one training.

This module imports no torch, so that ``contrast --help`` starts fast.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from contrast.errors import InputError

__all__ = ["only_training", "restored_environment", "usable_streams"]

_OURS = ("PL_", "WANDB_", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "CONTRAST_RUN")
"""Prefixes of the environment variables that Lightning, W&B and contrast set for one run."""

_TRAINING = threading.Lock()


@contextlib.contextmanager
def restored_environment() -> Iterator[None]:
    """Context manager: restore the environment variables that a run sets for its further processes."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_OURS) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def only_training() -> Iterator[None]:
    """Context manager: only one training may run in this process at a time.

    Two trainings in threads would share torch's random generator, which each step seeds, and neither run could be
    repeated. They would also share signals, environment variables and the W&B run.

    Raises:
        InputError: if another training is running.
    """
    if not _TRAINING.acquire(blocking=False):
        raise InputError(
            "another run is training in this process, and all threads share one random generator: start this one "
            "as a process of its own, or after the other"
        )
    try:
        yield
    finally:
        _TRAINING.release()


def usable_streams() -> None:
    """Open standard input, output and error if the process was started without them, for example by ``2>&-``.

    Python sets a closed stream, for example `sys.stderr`, to None, so every write fails. The system also gives the
    stream's number to the next opened file, so a library's message could be written into a checkpoint. Characters that
    standard output cannot encode are escaped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="backslashreplace")
