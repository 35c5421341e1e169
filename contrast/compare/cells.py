"""Result files of a comparison's cells: reading them with checks, and the lock on the folder that holds them.

The folder may come from another person. Its files are read as plain data, and text in them is reduced to characters
that are harmless in Markdown and in a terminal.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contrast.checked_text import parse_json, small_enough
from contrast.compare.grid import Cell, Evaluation
from contrast.errors import InputError

__all__ = ["ACCURACIES", "Content", "locked", "read_baselines", "read_cell", "read_json", "require_no_links"]

ACCURACIES = ("linear", "few_label", "knn")
"""Names of the numbers that are fractions of the test samples."""

Content = Mapping[str, Any]
"""Content of a ``cell.json``, or of a baseline."""

_LONGEST = 200  # characters of a text in a result file


@contextmanager
def locked(out: Path) -> Iterator[int | None]:
    """Context manager: lock the folder of a comparison; the folder is created if it is missing.

    Args:
        out: the folder.

    Yields:
        File descriptor of the lock, to be inherited by the processes of the cells: a process that outlives this one
        still holds the lock. None on a system without file locks.

    Raises:
        InputError: if another comparison holds the lock.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Never follow a symbolic link: a received folder may contain one.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(out / ".lock", "a", opener=lambda path, _: os.open(path, flags, 0o666)) as lock:
        try:
            import fcntl
        except ImportError:  # Windows
            yield None
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{str(out)!r} is in use by another comparison, or by cells that one left running: wait for their end"
            ) from error
        yield lock.fileno()


def require_no_links(out: Path, cells: Sequence[Cell]) -> None:
    """Refuse symbolic links where a comparison writes: a received folder could direct the writes elsewhere.

    Args:
        out: folder of the comparison; this folder itself may be a link.
        cells: cells of the grid.

    Raises:
        InputError: for the first link.
    """
    written = {out / name for name in (".lock", "baselines.json", "features", "table.json", "table.md", "table.html")}
    for cell in cells:
        written |= {cell.log, cell.cost, *(path for path in (cell.folder, *cell.folder.parents) if out in path.parents)}
    for path in sorted(written):
        if path.is_symlink():
            raise InputError(f"{str(path)!r} is a symbolic link, and a comparison writes there: delete the link")


def read_cell(cell: Cell) -> dict[str, Any] | None:
    """Read the result of a finished cell.

    Args:
        cell: the cell.

    Returns:
        The checked content of its ``cell.json``; None if the cell is not finished.

    Raises:
        InputError: if the file is not a result of this cell.
    """
    if not cell.result.exists():
        return None
    found = _checked(read_json(cell.result), cell.result)
    if (found["row"], found["column"], found["seed"]) != (cell.row, cell.column, cell.seed):
        raise _damaged(cell.result, "it is of another cell")
    if not (_is_number(found.get("train_seconds")) and found["train_seconds"] >= 0):
        raise _damaged(cell.result, "train_seconds is missing")
    if not isinstance(found.get("configuration"), str):
        raise _damaged(cell.result, "configuration is missing")
    return found


def read_baselines(file: Path) -> list[dict[str, Any]]:
    """Read the baselines that were measured before; none if there is no file.

    Args:
        file: ``baselines.json``.

    Raises:
        InputError: if the file does not hold baselines.
    """
    if not file.exists():
        return []
    content = read_json(file)
    if not isinstance(content, list):
        raise _damaged(file, "it holds no list")
    return [_checked(each, file) for each in content]


def read_json(file: Path) -> Any:
    """Read a JSON file of the folder.

    Args:
        file: the file.

    Raises:
        InputError: if the file is not JSON, is too large, or is not a regular file.
    """
    try:
        if not small_enough(file):
            raise _damaged(file, "it is too large, or not a regular file")
        return parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(file, "it is not JSON") from error


def _damaged(file: Path, why: str) -> InputError:
    return InputError(f"{str(file)!r} is damaged or not from `contrast compare` ({why}): delete it to measure again")


def _checked(found: Any, file: Path) -> dict[str, Any]:
    """Check the parts that a cell and a baseline have in common."""
    if not isinstance(found, dict):
        raise _damaged(file, "it holds no mapping")
    numbers = found.get("numbers")
    if not isinstance(numbers, dict) or not all(_is_number(each) for each in numbers.values()):
        raise _damaged(file, "numbers are missing")
    if not all(0 <= numbers.get(name, -1) <= 1 for name in ACCURACIES):
        raise _damaged(file, f"numbers lack one of {', '.join(ACCURACIES)} between 0 and 1")
    kinds = {"row": str, "column": str | None, "seed": int, "commit": str, "evaluate": dict, "data": dict}
    for name, kind in {**kinds, "machine": dict}.items():
        if name not in found or not isinstance(found[name], kind):
            raise _damaged(file, f"{name} is missing")
    if not _is_evaluation(found["evaluate"]):
        raise _damaged(file, "evaluate is missing")
    for split in ("train", "test"):
        described = found["data"].get(split)
        if not isinstance(described, dict) or type(described.get("samples")) is not int or described["samples"] < 1:
            raise _damaged(file, f"data.{split} is missing")
        if not isinstance(described.get("set"), str):
            raise _damaged(file, f"data.{split} has no name")
    known = ("processor", "device", "torch", "contrast", "threads", "cells_at_a_time")
    machine = {name: found["machine"].get(name, "unknown") for name in known if name in found["machine"]}
    shown = {
        "commit": found["commit"],
        "data": found["data"],
        "machine": {"processor": "unknown", "device": "unknown", "torch": "unknown", "threads": 1, **machine},
    }
    return {**found, **_plain(shown)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_evaluation(value: Mapping[str, Any]) -> bool:
    return value.keys() == vars(Evaluation()).keys() and all(type(each) is int and each > 0 for each in value.values())


def _plain(value: Any) -> Any:
    """Replace characters that Markdown, HTML or a terminal could act on, in every text of a value."""
    if isinstance(value, dict):
        return {str(_plain(str(key))): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return re.sub(r"[^\w .,:;()+/@%*=-]", " ", value)[:_LONGEST] if isinstance(value, str) else value
