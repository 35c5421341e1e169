"""Atomic writes: a file is replaced completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["is_part", "remove_parts", "whole_file"]

_PART = ".part"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Atomic write: a context manager that yields a temporary path beside `path`, and renames it to `path` at the end.

    The folder is created if it is missing. A reader sees either the old file or the new file. If the block raises, the
    old file remains. If the process is killed, the temporary file remains: `remove_parts` deletes it.

    Args:
        path: the file to write or replace.

    Yields:
        The temporary path to write to, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folders: Iterable[Path]) -> None:
    """Delete temporary files that killed processes left in these folders.

    Args:
        folders: folders to clean. No other process may be writing there.
    """
    for folder in folders:
        for part in folder.glob(f".*{_PART}"):
            part.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
    """Whether a file is a temporary file of an atomic write."""
    return path.name.startswith(".") and path.name.endswith(_PART)
