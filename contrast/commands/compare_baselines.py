"""Baselines of a comparison, evaluated like its cells: majority class, raw input, and random weights."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch

from contrast.commands.building import build, evaluation_parser, resolve
from contrast.commands.compare_cell import evaluate_encoder
from contrast.commands.compare_states import Data, data_of, described_identity
from contrast.commands.configuration import Config
from contrast.compare.cells import ACCURACIES, read_baselines
from contrast.compare.grid import Cell, Grid
from contrast.compare.grid import fingerprint as key_of
from contrast.compare.machine import commit, machine
from contrast.data import TrainingData
from contrast.evaluation import Encoder, choose_device, fingerprint, raw_input
from contrast.runs.files import whole_file

__all__ = ["MAJORITY", "baselines_of"]

MAJORITY = "majority class"
"""Name of the baseline that gives every sample the most frequent class of the training set."""

_RANDOM = "random weights"


def baselines_of(grid: Grid, configs: Mapping[Cell, Config], out: Path) -> list[Mapping[str, Any]]:
    """Measure the baselines for each column and seed, with the network of the baseline row.

    Args:
        grid: the grid.
        configs: its cells with their resolved configurations.
        out: folder of the comparison. Its ``baselines.json`` holds what was measured before.

    Returns:
        For each baseline, a mapping with the same keys as the result of a cell.
    """
    kept = out / "baselines.json"
    before = read_baselines(kept)
    found: list[Mapping[str, Any]] = []
    known: dict[str, Data | None] = {}
    for cell in (cell for cell in configs if cell.row == grid.baseline):
        config = configs[cell]
        key = key_of({"cell": _measured_by(config), "evaluate": asdict(grid.evaluation)})
        data = data_of(config, known)
        mine = [each for each in before if each.get("key") == key and _of_same_data(each, data)]
        have = {each["row"] for each in mine}
        if not have - {MAJORITY} or MAJORITY not in have:
            print(f"compare: baselines of {cell.name}", flush=True)
            mine += [{"key": key, **each} for each in _measure(grid, cell, config, out / "features", have)]
        # Columns that differ only in training share their baselines.
        found += [{**each, "column": cell.column, "seed": cell.seed} for each in _ordered(mine)]
        before += mine
        with whole_file(kept) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _of_same_data(content: Mapping[str, Any], data: Data | None) -> bool:
    if data is None:
        return True
    pairs = ((content["data"]["train"], data.train), (content["data"]["test"], data.test))
    identities = [(described_identity(before), now) for before, now in pairs]
    return not any(before and now and before.difference(now) for before, now in identities)


def _measured_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a baseline depends on: network, data and seed; not batches."""
    data = {**config["data"], "init_args": {**config["data"]["init_args"]}}
    for name in ("batch_size", "workers"):
        data["init_args"].pop(name, None)
    return {"seed": config["seed_everything"], "network": config["model"]["init_args"]["backbone"], "data": data}


def _measure(grid: Grid, cell: Cell, config: Config, cache: Path, have: set[str]) -> Iterator[dict[str, Any]]:
    parser = evaluation_parser(with_model=True)
    lightning.seed_everything(config["seed_everything"], verbose=False)
    typed, _ = resolve(parser, {name: config[name] for name in ("seed_everything", "model", "data")})
    built = build(parser, typed)
    net, data = built.model.backbone, built.data
    data.setup("test")
    common = {
        "column": cell.column,
        "seed": cell.seed,
        "evaluate": asdict(grid.evaluation),
        "commit": commit(),
        "machine": machine(),
    }
    if MAJORITY not in have:
        described = {split: data.describe(split) for split in ("train", "test")}
        numbers = dict.fromkeys(ACCURACIES, _majority(data))
        yield {"row": MAJORITY, **common, "numbers": numbers, "data": described}
    if have - {MAJORITY}:
        return
    untrained = Encoder(net, net.width, data.input_shape, data.standardisation, fingerprint(net), {"weights": "random"})
    for name, encoder in ((f"raw {data.value_name}s", raw_input(untrained)), (_RANDOM, untrained)):
        begun = time.perf_counter()
        numbers, _, about = evaluate_encoder(encoder, data, cache, choose_device("auto"), grid.evaluation, {})
        shown = ", ".join(f"{kind} {100 * numbers[kind]:.1f}" for kind in ACCURACIES)
        print(f"  {name}: {shown} ({time.perf_counter() - begun:.0f} s)", flush=True)
        yield {"row": name, **common, "numbers": numbers, "data": about}


def _majority(data: TrainingData) -> float:
    """Accuracy on the test set of the class that is most frequent in the training set; the first of equal classes."""
    train, test = data.train_labels, data.test_labels
    assert train is not None  # the evaluations of the cells needed both
    assert test is not None
    answer = int(torch.bincount(train[train >= 0]).argmax())
    return float((test == answer).double().mean())


def _ordered(contents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Baselines in the order of tables: raw input, random weights, majority class."""
    return sorted(contents, key=lambda each: (each["row"] == MAJORITY, each["row"] == _RANDOM))
