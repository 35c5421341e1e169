"""One line again out of what torch and torchvision make of an error."""

from __future__ import annotations

from typing import Any

from contrast.errors import InputError

__all__ = ["construction_error", "worker_message"]


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
