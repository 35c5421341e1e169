"""In what two run folders differ, bit for bit, but for what the clock says."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from contrast.records import read_mapping, read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint

__all__ = ["differences"]

_CLOCK = ("seconds", "train/samples_per_second")
_AS_BYTES = ("pairs/*", "gallery/*")


def differences(one: Path, other: Path) -> list[str]:
    """Where the runs in two folders are not the same; nothing if they are."""
    first, second = RunFolder(one), RunFolder(other)
    return [
        *_of_files(one, other),
        *_unequal(_plain(read_mapping(first.config)[0]), _plain(read_mapping(second.config)[0])),
        *_of_checkpoints(first, second),
        *_of_rows(first, second),
        *_of_tables(first, second),
    ]


def _of_files(one: Path, other: Path) -> Iterator[str]:
    names = [{str(path.relative_to(each)) for path in each.rglob("*") if path.is_file()} for each in (one, other)]
    yield from (f"{name}: in one folder alone" for name in sorted(names[0] ^ names[1]))
    for pattern in _AS_BYTES:
        for path in sorted(one.glob(pattern)):
            twin = other / path.relative_to(one)
            if twin.exists() and path.read_bytes() != twin.read_bytes():
                yield f"{path.relative_to(one)}: other bytes"


def _of_checkpoints(one: RunFolder, other: RunFolder) -> Iterator[str]:
    for path in sorted(one.checkpoints.glob("*.ckpt")):
        twin = other.checkpoints / path.name
        if twin.exists():
            contents = (read_checkpoint(path), read_checkpoint(twin))
            for content in contents:
                content["contrast"]["config"] = _plain(content["contrast"]["config"])
            yield from _unequal(*contents, path.name)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what runs may differ in and be the same: the number of loader workers."""
    arguments = {name: value for name, value in config["data"]["init_args"].items() if name != "workers"}
    return {**config, "data": {**config["data"], "init_args": arguments}}


def _unequal(one: Any, other: Any, where: str = "config.yaml") -> Iterator[str]:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape and _bytes(one) == _bytes(other)
        if not same:
            yield f"{where}: other numbers"
    elif isinstance(one, Mapping) and isinstance(other, Mapping):
        yield from (f"{where}.{name}: in one alone" for name in one.keys() ^ other.keys())
        for name in one.keys() & other.keys():
            yield from _unequal(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from _unequal(*pair, f"{where}.{place}")
    elif type(one) is not type(other) or one != other:
        yield f"{where}: {one!r} and {other!r}"[:200]


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _of_rows(one: RunFolder, other: RunFolder) -> Iterator[str]:
    for path, twin in zip(one.records, other.records, strict=True):
        rows = [[_timeless(row) for row in read_rows(each)] for each in (path, twin)]
        if len(rows[0]) != len(rows[1]):
            yield f"{path.name}: {len(rows[0])} and {len(rows[1])} rows"
            continue
        apart = [place for place, (a, b) in enumerate(zip(*rows, strict=True)) if a != b]
        if apart:
            yield f"{path.name}: rows {apart[:5]} differ"


def _of_tables(one: RunFolder, other: RunFolder) -> Iterator[str]:
    tables = []
    for folder in (one, other):
        if not folder.metrics_table.is_file():
            return  # the missing file is told of already
        with open(folder.metrics_table, newline="") as file:
            tables.append([_timeless(row) for row in csv.DictReader(file)])
    if tables[0] != tables[1]:
        yield "metrics.csv: other rows"


def _timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _CLOCK}
