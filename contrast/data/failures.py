"""One line again out of what torch and torchvision make of an error."""

from __future__ import annotations

import re
from typing import Any

from contrast.errors import InputError

__all__ = ["construction_error", "dead_worker", "worker_message"]


def worker_message(error: InputError) -> str:
    """The one line of an InputError, also of one that a DataLoader's worker process raised.

    torch raises that one anew in the main process, with the worker's whole traceback for a message; the last line of
    the traceback that names the exception holds what was said.

    Example:
        >>> worker_message(InputError("a.png is empty"))
        'a.png is empty'
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    prefix = f"{type(error).__module__}.{type(error).__qualname__}: "
    said = [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]
    return said[-1] if said else text


def dead_worker(error: BaseException) -> str:
    """What to read where a loader's worker process died, with the likely cause; empty for any other error.

    Example:
        >>> dead_worker(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
        'a loader worker was killed (process 7), most likely as memory ran out: give fewer data.workers'
        >>> dead_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        ''
    """
    seen: BaseException | None = error
    while seen is not None and "DataLoader worker (pid" not in str(seen):
        seen = seen.__cause__ or seen.__context__
    if not isinstance(seen, RuntimeError):
        return ""
    said = str(seen)
    which = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", said)
    who = f"a loader worker was killed (process {which[1] if which else 'unknown'})"
    if "bus error" in said.lower():
        return f"{who}, most likely as /dev/shm is full: enlarge it, or give data.workers 0"
    if "Segmentation" in said:
        return f"{who} by a fault in a library that it used: give data.workers 0 to see where"
    return f"{who}, most likely as memory ran out: give fewer data.workers"


def construction_error(class_path: str, arguments: dict[str, Any], error: Exception) -> InputError:
    """What a data set class raised when it was made, as one line that names the class and what it was given.

    torchvision raises RuntimeError where files are missing or their checksums differ, and tells of a `download`
    argument of Python's; FileNotFoundError for an image folder; ValueError for a split that it does not know.

    Example:
        >>> missing = RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        >>> print(construction_error("torchvision.datasets.CIFAR10", {"root": "data"}, missing))
        torchvision.datasets.CIFAR10: files missing or damaged in 'data': correct root, or set download: true
    """
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    if isinstance(error, RuntimeError) and "download=True" in str(error):
        root = f" in {str(arguments['root'])!r}" if "root" in arguments else ""
        return InputError(f"{class_path}: files missing or damaged{root}: correct root, or set download: true")
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{class_path}({given}): {reason}")
