"""Exceptions that the command line prints as a single line."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable

__all__ = [
    "MEMORY",
    "InputError",
    "RunStopped",
    "Terminated",
    "counted",
    "did_you_mean",
    "files_message",
    "out_of_memory",
]

MEMORY = "out of memory: give smaller numbers for batches, banks, layers and views, or a machine that has more"


class InputError(ValueError):
    """Invalid input by the user: the message names the value and the fix, in one line.

    The command line prints the message without a traceback and exits with code 2.
    """


def counted(number: int, noun: str) -> str:
    """A number with its noun in the singular or plural.

    Example:
        >>> counted(1, "epoch"), counted(2000, "step")
        ('1 epoch', '2,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A hint of the form ``; did you mean 'x'? known: x, y``, for a name that is not among `known`.

    Example:
        >>> did_you_mean("simclr", ["SimCLR", "SimSiam"])
        "; did you mean 'SimCLR'? known: SimCLR, SimSiam"
    """
    names = sorted(known)
    by_lower = {each.lower(): each for each in reversed(names)}
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    near = near or difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    found = by_lower.get(str(name).lower()) or (by_lower.get(near[0], near[0]) if near else None)
    guess = f"; did you mean {found!r}?" if found else ";"
    return f"{guess} known: {', '.join(names)}"


class RunStopped(Exception):
    """A run ended before its last step, for a reason that the user should read, in one line.

    Args:
        message: what happened, and how to continue.
        exit_code: exit code of the process: 1 for a failure, 130 for an interruption by hand.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received: the process ends as with Ctrl-C, so that every `finally` can clean up.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that memory is exhausted, on the CPU or a GPU.

    Example:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
        True
    """
    words = ("allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def files_message(error: OSError) -> str:
    """Message of a file error: the file and the reason.

    Example:
        >>> files_message(FileNotFoundError(2, "No such file or directory", "runs/a"))
        "'runs/a': No such file or directory: give another path, or make this one usable"
    """
    if error.filename is None:
        return " ".join(str(error).split()) or type(error).__name__
    return f"{str(error.filename)!r}: {error.strerror}: give another path, or make this one usable"
