"""Loggers of a resumed run: what they were sent of steps that are trained again stands there once."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from contrast.callbacks.guarded_loggers import attempt

__all__ = ["flush", "prepare", "sent"]

_SENT = "_contrast_sent"
_STEP = "trainer/global_step"
_BLOCK, _HEAD = 32_768, 7
_WHOLE, _FIRST, _LAST = 1, 2, 4  # and 3, a part between these


def prepare(logger: Logger, step: int) -> None:
    """Tell a logger that the run goes on with the steps after this one; of other kinds this does nothing.

    TensorBoard drops what it has of later steps. W&B takes nothing back: what its files hold of later steps is noted,
    and not sent again.

    Args:
        logger: whose files are those of earlier starts.
        step: of the checkpoint.
    """
    if isinstance(logger, TensorBoardLogger):
        attempt(logger, "resume", lambda: _purge(logger, step))
    elif isinstance(logger, WandbLogger):
        object.__setattr__(logger, _SENT, attempt(logger, "resume", lambda: _read(logger, step), {}))


def sent(logger: Logger, step: int) -> set[str]:
    """Names of what W&B was sent of a step by earlier starts; empty for other loggers and steps."""
    known = getattr(logger, _SENT, None)
    return known.get(step, set()) if isinstance(known, dict) else set()


def flush(loggers: Iterable[Logger]) -> None:
    """Have TensorBoard write what it holds: with a checkpoint, so that all until then is there when a run goes on."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            attempt(logger, "flush", logger.experiment.flush)


def _purge(logger: TensorBoardLogger, step: int) -> None:
    writer = logger.experiment
    writer.close()  # the next event opens another file, which says first from which step it replaces the others
    writer.purge_step = step + 1


def _read(logger: WandbLogger, step: int) -> dict[int, set[str]]:
    """By step, the names in the files that W&B's starts have left: the last ones of a killed run may not have come."""
    found: dict[int, set[str]] = {}
    for file in sorted(Path(logger.save_dir or ".").glob(f"wandb/*run-*-{logger.version}/run-{logger.version}.wandb")):
        for row in _history(file):
            of = row.pop(_STEP, None)
            if isinstance(of, int) and of > step:
                found.setdefault(of, set()).update(row)
    return found


def _history(file: Path) -> Iterator[dict[str, Any]]:
    from wandb.proto import wandb_internal_pb2 as proto  # after W&B itself, which takes a second

    for content in _records(file.read_bytes()):
        record = proto.Record.FromString(content)  # type: ignore[attr-defined]  # made by protobuf
        if record.WhichOneof("record_type") == "history":
            yield {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}


def _records(data: bytes) -> Iterator[bytes]:
    """Whole records of LevelDB's log format, in which W&B cuts them at blocks of 32 KiB; a cut one ends the file."""
    place, parts = _HEAD, b""  # after the file's own head
    while place + _HEAD <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEAD:  # too little for a head: filled up
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # after a checksum
        part = data[place + _HEAD : place + _HEAD + length]
        if len(part) < length or not _WHOLE <= kind <= _LAST:
            return
        place += _HEAD + length
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, _LAST):
            yield parts
