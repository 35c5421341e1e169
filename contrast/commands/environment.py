"""What a process has once, and a command must leave as it was: the environment, standard streams, one training."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from contrast.errors import InputError

__all__ = ["only_training", "restored_environment", "usable_streams"]

_OURS = ("PL_", "WANDB_", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "CONTRAST_RUN")
"""How names of variables begin that Lightning, W&B and contrast set for one run."""

_TRAINING = threading.Lock()


@contextlib.contextmanager
def restored_environment() -> Iterator[None]:
    """On leaving, the variables that a run sets for its further processes are as they were."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_OURS) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def only_training() -> Iterator[None]:
    """While this lasts no other training starts in this process.

    Two threads would share torch's random generator, which each step seeds, and signals, the environment and W&B's run
    are the process's: neither run could be repeated.

    Raises:
        InputError: where one is under way.
    """
    if not _TRAINING.acquire(blocking=False):
        raise InputError(
            "another training is under way in this process, and its threads share one random generator: start this one "
            "as a process of its own, or after the other"
        )
    try:
        yield
    finally:
        _TRAINING.release()


def usable_streams() -> None:
    """Give the process standard streams where it was started without, as by ``2>&-``.

    Python has None for them, at which every writer fails, and the system gives their numbers to the next files that are
    opened: a library's message would be written into a checkpoint. What a stream's encoding lacks is escaped.
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
