"""Atomic writes: a file is replaced in one piece or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["is_part", "remove_parts", "whole_file"]

_PART = ".part"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path`, in its folder, which is made; what was written there takes its place on leaving.

    A reader sees the old file or the new one, and a failure leaves the old one. A process that is killed leaves its
    part: `remove_parts` takes it away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folders: Iterable[Path]) -> None:
    """Take away what killed processes left in these folders. Nobody else may be writing there."""
    for folder in folders:
        for part in folder.glob(f".*{_PART}"):
            part.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
    """Whether a file is what a process leaves that was killed while it wrote."""
    return path.name.startswith(".") and path.name.endswith(_PART)
