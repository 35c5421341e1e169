"""Small grids for tests: the demo's data and net, a few steps a cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from contrast.cli import main

ROOT = Path(__file__).parents[2]
SMALL = ["configs/demo.yaml", "tests/commands/small.yaml"]
EVALUATE = {"per_class": 2, "neighbours": 5, "splits": 2}


def write_grid(file: Path, rows: dict[str, Any], **keys: Any) -> Path:
    """A grid over the small demo, one epoch unless its flags say otherwise."""
    common = {"files": SMALL, "flags": {"trainer.max_epochs": 1}}
    file.write_text(yaml.safe_dump({"common": common, "rows": rows, "evaluate": EVALUATE, **keys}, sort_keys=False))
    return file


def compare(grid: Path, out: Path, *words: object) -> int:
    """The command in this process, its cells in others; its exit code."""
    return main(["compare", str(grid), "--out", str(out), *map(str, words)])


def cells(out: Path) -> Iterator[dict[str, Any]]:
    """What every finished cell found."""
    for file in sorted(out.rglob("cell.json")):
        yield json.loads(file.read_text())


def made_up(
    row: str, column: str | None, seed: int, top1: float, seconds: float = 2.0, **numbers: float
) -> dict[str, Any]:
    """A cell.json without a run."""
    return {
        "row": row,
        "column": column,
        "seed": seed,
        "numbers": {"linear": top1, "few_label": top1 - 0.1, "knn": top1 - 0.2, **numbers},
        "evaluate": {"per_class": 10, "neighbours": 20, "splits": 5},
        "data": {"train": {"set": "a.Digits", "samples": 1437}, "test": {"set": "a.Digits", "samples": 360}},
        "train_seconds": seconds,
        "commit": "0123456789",
        "machine": {"processor": "P", "threads": 1, "device": "CPU", "torch": "2", "cells_at_a_time": 1},
    }
