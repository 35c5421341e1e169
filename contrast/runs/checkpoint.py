"""Checkpoint files: written atomically with a SHA-256 checksum, and read without executing code.

A checkpoint is torch's own zip archive, which any `torch.load` can read. The archive's comment, at the very end of the
file, holds the SHA-256 of everything that torch wrote.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from contrast.errors import InputError
from contrast.runs.files import whole_file

__all__ = ["FORMAT", "read_checkpoint", "write_checkpoint"]

FORMAT = 2
"""Version of the content under "contrast" in a checkpoint. Format 1 is the same without a checksum."""

_NAME = b"sha256:"
_COMMENT = len(_NAME) + 64
_NO_COMMENT = b"\0\0"  # the last two bytes of an archive without a comment: the comment's length, 0
_CHUNK = 1 << 20


def write_checkpoint(content: Mapping[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint atomically; it is flushed to disk before it replaces the old one.

    Args:
        content: what `torch.save` accepts.
        path: the checkpoint file.
        previous: path that keeps the old checkpoint; None keeps no old checkpoint. At any time, at least one complete
            checkpoint exists.
    """
    with whole_file(path) as part:
        with open(part, "w+b") as file:
            digest = _Digested(file)
            torch.save(dict(content), cast(BinaryIO, digest))
            _seal(file, digest.sum.hexdigest())
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
    _flush_names(path.parent)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project without executing any code that it may contain.

    Args:
        path: the checkpoint file.

    Returns:
        The checkpoint's content, with all tensors on the CPU.

    Raises:
        InputError: if the file is missing or damaged, has a format that this version cannot read, or was not written by
            this project.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {str(path)!r}: the run has not written one yet")
    try:
        sealed = _check_seal(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # untrusted bytes can raise any exception, and each means that the file is unreadable
        # torch's message is not repeated: it explains how to load the file with its code executed.
        why = (
            "it holds objects other than tensors and plain data"
            if isinstance(error, pickle.UnpicklingError)
            else str(error)
        )
        raise _unreadable(path, why) from error
    ours = content.get("contrast") if isinstance(content, Mapping) else None
    if not isinstance(ours, Mapping):
        raise InputError(
            f"{str(path)!r} was not written by contrast: evaluate it with --weights {path} and --backbone NAME"
        )
    _check_content(path, content, ours, sealed)
    return dict(content)


def _check_content(path: Path, content: Mapping[str, Any], ours: Mapping[str, Any], sealed: bool) -> None:
    version = ours.get("format")
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise InputError(
            f"checkpoint {str(path)!r} has format {version!r} and this version of contrast reads 1 to {FORMAT}: "
            "use the version that wrote it, or a newer one"
        )
    if version > 1 and not sealed:
        raise _unreadable(path, "its checksum is missing")
    parts = {"state_dict": Mapping, "epoch": int, "global_step": int}
    wrong = [name for name, kind in parts.items() if not isinstance(content.get(name), kind)]
    wrong += [] if isinstance(ours.get("epochs", 0), int) else ["epochs"]
    if wrong or not isinstance(ours.get("config"), Mapping):
        raise _unreadable(path, f"it lacks {wrong[0] if wrong else 'its configuration'}")
    for name, value in content["state_dict"].items():
        # A module may keep anything under the name that torch reserves for it.
        if not isinstance(name, str) or not (torch.is_tensor(value) or name.endswith("_extra_state")):
            raise _unreadable(path, f"its state_dict has {name!r:.60} of type {type(value).__name__}")
    optimizers, batch = ours.get("optimizers", []), ours.get("batch", {})
    if not isinstance(optimizers, list) or not all(isinstance(each, str) for each in optimizers):
        raise _unreadable(path, "contrast.optimizers is not a list of names")
    if not isinstance(batch, Mapping) or not all(isinstance(each, int) for each in batch.values()):
        raise _unreadable(path, "contrast.batch is not a mapping of counts")


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"checkpoint {str(path)!r} cannot be read ({' '.join(why.split())[:120]}): it is damaged or not a checkpoint"
    )


def _flush_names(folder: Path) -> None:
    """Flush a folder's entries to disk: only then is a renamed file durable under its new name."""
    with contextlib.suppress(OSError):  # Windows, or a file system without fsync of folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


class _Digested:
    """An append-only file that computes the SHA-256 of everything written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _seal(file: BinaryIO, checksum: str) -> None:
    file.seek(-len(_NO_COMMENT), os.SEEK_END)
    assert file.read(len(_NO_COMMENT)) == _NO_COMMENT, "torch wrote a comment of its own"
    file.seek(-len(_NO_COMMENT), os.SEEK_END)
    file.write(struct.pack("<H", _COMMENT) + _NAME + checksum.encode())


def _check_seal(path: Path) -> bool:
    """Verify the checksum of a checkpoint file.

    Returns:
        Whether the file has a checksum.

    Raises:
        ValueError: if the checksum does not match.
    """
    end = len(_NO_COMMENT) + _COMMENT
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - end))
        tail = file.read()
        if tail[:2] != struct.pack("<H", _COMMENT) or tail[2 : 2 + len(_NAME)] != _NAME:
            return False
        file.seek(0)
        found, left = hashlib.sha256(), size - end
        while left > 0:
            chunk = file.read(min(_CHUNK, left))
            found.update(chunk)
            left -= len(chunk)
        found.update(_NO_COMMENT)
    if found.hexdigest().encode() != tail[2 + len(_NAME) :]:
        raise ValueError("its checksum does not match")
    return True


def _keep(path: Path, previous: Path) -> None:
    try:
        with whole_file(previous) as part:
            part.unlink(missing_ok=True)
            os.link(path, part)  # a hard link, so that a checkpoint exists at any time
    except OSError:  # a file system without hard links
        os.replace(path, previous)
