"""A reader of W&B's offline run files, which W&B itself has no public one for."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEAD = 32_768, 7


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """Every record of a ``.wandb`` file: LevelDB's log format, in which records are cut at blocks of 32 KiB."""
    data, place, parts = path.read_bytes(), _HEAD, b""
    assert data.startswith(b":W&B"), path
    while place + _HEAD <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEAD:  # too little for a head: filled up
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # after a checksum; kinds: whole, first, middle, last
        parts += data[place + _HEAD : place + _HEAD + length]
        place += _HEAD + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def until_ended(path: Path, seconds: float = 60) -> None:
    """Wait for the record of the run's end: W&B's own process writes what is left when ours has gone on already."""
    deadline = time.monotonic() + seconds
    while not of_type(path, "exit"):
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.2)


def of_type(path: Path, kind: str) -> list[wandb_internal_pb2.Record]:
    """Records of one type: "run", "config", "artifact", "exit" and more."""
    return [record for record in records(path) if record.WhichOneof("record_type") == kind]


def history(path: Path) -> list[dict[str, Any]]:
    """What was logged, row by row."""
    return [_values(record.history.item) for record in of_type(path, "history")]


def summary(path: Path) -> dict[str, Any]:
    """What W&B shows for the run as a whole."""
    found: dict[str, Any] = {}
    for record in of_type(path, "summary"):
        found |= _values(record.summary.update)
    return found


def table(path: Path, logged: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table that was logged, its pictures as the files that lie staged until they are sent."""
    found = [record.artifact for record in of_type(path, "artifact")]
    (artifact,) = (each for each in found if each.client_id in logged["artifact_path"])
    staged = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    content = json.loads(staged[logged["artifact_path"].split(artifact.client_id + "/")[1]].read_text())
    rows = [[staged[cell["path"]] if isinstance(cell, dict) else cell for cell in row] for row in content["data"]]
    return content["columns"], rows


def _values(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        *path, name = item.nested_key or [item.key]
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[name] = json.loads(item.value_json)
    return found
